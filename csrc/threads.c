/* A pool of workers, awake for a while after each job and then asleep.
 *
 * A job is behind a door: whoever of the workers comes while it is open takes part, and the caller, who begins
 * at once, waits at the end for those who are inside and for nobody else. So a worker that the system is slow
 * to wake, or does not run at all just then, costs the caller nothing.
 *
 * Workers look for the next job in a short spin, for waking a sleeper takes longer than most jobs: 20 to 300 us
 * were measured, from the sleep of the CPU that it slept on. Then they sleep on a condition variable, so an idle
 * pool costs nothing beside other libraries' pools. They block all signals: Ctrl-C reaches the main thread. A
 * forked child has none of the parent's threads, so it starts with an empty pool. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define cpu_relax() _mm_pause()
#elif defined(__aarch64__)
/* What `yield` is named for: on most cores that does nothing, while this waits for the pipeline, some ten
 * nanoseconds like the pause above, by which the counts below are meant. */
#define cpu_relax() __asm__ volatile("isb" ::: "memory")
#else
#define cpu_relax() ((void)0)
#endif

enum { SPINS_BEFORE_SLEEP = 2000, SPINS_ALONE = 400, SPINS_PER_YIELD = 16, SPINS_BEFORE_YIELD = 4000 };

/* Sleepers are woken for a job that lasts longer than it takes to wake them, and for any that comes so soon after
 * the last that a worker, once awake, would still have been looking for it. */
static const double WORTH_WAKING_SECONDS = 150e-6, AWAKE_SECONDS = 30e-6;

/* The door: how many workers are inside, whether it is open, and the number of the job behind it. */
enum { ONE_INSIDE = 1, OPEN = 1 << 16, ONE_JOB = 1 << 17 };

static struct {
    pthread_mutex_t owner; /* held by the caller whose job is running */
    pthread_mutex_t mutex; /* guards the sleepers */
    pthread_cond_t wake;
    int workers;           /* started so far */
    int sleepers;
    _Atomic uint64_t door;
    double ended;          /* when the last job was done */
    int threads;           /* that take part in this job */
    void (*task)(void *, int, int);
    void *argument;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void forget_workers(void)
{
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.workers = pool.sleepers = 0;
    atomic_store(&pool.door, 0);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void register_fork(void) { pthread_atfork(NULL, NULL, forget_workers); }

typedef struct worker {
    int thread;
    uint64_t job; /* the last one that it took part in, or that was there before it */
} worker;

/* Whether a job other than the last one is there to take part in; the worker is inside then. */
static int enter(worker *me)
{
    uint64_t door = atomic_load_explicit(&pool.door, memory_order_relaxed);
    while ((door & OPEN) && door / ONE_JOB != me->job)
        if (atomic_compare_exchange_weak_explicit(&pool.door, &door, door + ONE_INSIDE, memory_order_acquire,
                                                  memory_order_relaxed)) {
            me->job = door / ONE_JOB;
            return 1;
        }
    return 0;
}

/* Looks for a job in a short spin. The rest of it is polite: where a worker shares a CPU with its caller, as a
 * system does that has just woken it, the spin would keep the caller from bringing the job. */
static int enter_soon(worker *me)
{
    for (int spins = 0; spins < SPINS_BEFORE_SLEEP; spins++) {
        if (enter(me))
            return 1;
        cpu_relax();
        if (spins >= SPINS_ALONE && spins % SPINS_PER_YIELD == 0)
            sched_yield();
    }
    return 0;
}

/* Sleeps until the next call, unless there is a job already. */
static int enter_or_sleep(worker *me)
{
    pthread_mutex_lock(&pool.mutex);
    const int inside = enter(me);
    if (!inside) {
        pool.sleepers++;
        pthread_cond_wait(&pool.wake, &pool.mutex);
        pool.sleepers--;
    }
    pthread_mutex_unlock(&pool.mutex);
    return inside;
}

static void *work(void *argument)
{
    worker me = *(worker *)argument;
    free(argument);
    for (;;) {
        while (!enter_soon(&me) && !enter_or_sleep(&me))
            ;
        if (me.thread < pool.threads)
            pool.task(pool.argument, me.thread, pool.threads);
        atomic_fetch_sub_explicit(&pool.door, ONE_INSIDE, memory_order_release);
    }
    return NULL;
}

static void start_workers(int wanted)
{
    while (pool.workers < wanted) {
        worker *w = malloc(sizeof *w);
        pthread_t thread;
        sigset_t all, before;
        if (!w)
            break;
        *w = (worker){pool.workers + 1, atomic_load(&pool.door) / ONE_JOB};
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        const int failed = pthread_create(&thread, NULL, work, w);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        if (failed) {
            free(w);
            break;
        }
        pthread_detach(thread);
        pool.workers++;
    }
}

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void wake_sleepers(double seconds)
{
    pthread_mutex_lock(&pool.mutex);
    if (pool.sleepers && (seconds >= WORTH_WAKING_SECONDS || seconds_now() - pool.ended < AWAKE_SECONDS))
        pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);
}

void cc_parallel(int wanted, double seconds, void (*task)(void *, int, int), void *argument)
{
    if (wanted > 1)
        pthread_once(&once, register_fork); /* before a fork can find the pool owned */
    if (wanted <= 1 || pthread_mutex_trylock(&pool.owner) != 0) {
        task(argument, 0, 1);
        return;
    }
    start_workers((wanted < CC_MOST_THREADS ? wanted : CC_MOST_THREADS) - 1);
    pool.threads = wanted <= pool.workers ? wanted : pool.workers + 1;
    pool.task = task;
    pool.argument = argument;
    atomic_store(&pool.door, (atomic_load(&pool.door) / ONE_JOB + 1) * ONE_JOB + OPEN);
    wake_sleepers(seconds);
    task(argument, 0, pool.threads);
    uint64_t door = atomic_fetch_and_explicit(&pool.door, ~(uint64_t)OPEN, memory_order_acquire);
    for (int spins = 0; door % OPEN > 0; spins++) {
        cc_wait_a_little(spins);
        door = atomic_load_explicit(&pool.door, memory_order_acquire);
    }
    pool.ended = seconds_now();
    pthread_mutex_unlock(&pool.owner);
}

void cc_wait_a_little(int spins)
{
    if (spins < SPINS_BEFORE_YIELD)
        cpu_relax();
    else
        sched_yield();
}
