/* A pool of sleeping workers.
 *
 * A job is published by raising `turn`; workers look for it in a short spin (a network is many short
 * phases, and waking a sleeper costs more than most of them) and then sleep on a condition variable, so
 * an idle pool costs nothing beside other libraries' pools. Workers block all signals: Ctrl-C reaches
 * the main thread. A forked child has none of the parent's threads, so it starts with an empty pool. */
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
#include <unistd.h>

#if defined(__x86_64__)
#include <immintrin.h>
#define cpu_relax() _mm_pause()
#else
#define cpu_relax() ((void)0)
#endif

enum { SPINS_BEFORE_SLEEP = 2000, SPINS_BEFORE_YIELD = 4000 };

static struct {
    pthread_mutex_t owner;   /* held by the caller whose job is running */
    pthread_mutex_t mutex;   /* guards the sleepers */
    pthread_cond_t wake;
    int workers;             /* started so far */
    int sleepers;
    _Atomic unsigned turn;   /* job number */
    _Atomic int unfinished;  /* workers that are not done with this job yet */
    int threads;             /* that take part in this job */
    void (*task)(void *, int, int);
    void *argument;
} pool = {.owner = PTHREAD_MUTEX_INITIALIZER, .mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};

static void forget_workers(void)
{
    pthread_mutex_init(&pool.owner, NULL);
    pthread_mutex_init(&pool.mutex, NULL);
    pthread_cond_init(&pool.wake, NULL);
    pool.workers = pool.sleepers = 0;
    atomic_store(&pool.turn, 0);
    atomic_store(&pool.unfinished, 0);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void register_fork(void) { pthread_atfork(NULL, NULL, forget_workers); }

typedef struct worker {
    int thread;
    unsigned turn; /* last job seen when the worker was started */
} worker;

static void *work(void *argument)
{
    worker me = *(worker *)argument;
    free(argument);
    for (;;) {
        int spins = 0;
        while (atomic_load_explicit(&pool.turn, memory_order_acquire) == me.turn && spins++ < SPINS_BEFORE_SLEEP)
            cpu_relax();
        if (atomic_load(&pool.turn) == me.turn) {
            pthread_mutex_lock(&pool.mutex);
            pool.sleepers++;
            while (atomic_load(&pool.turn) == me.turn)
                pthread_cond_wait(&pool.wake, &pool.mutex);
            pool.sleepers--;
            pthread_mutex_unlock(&pool.mutex);
        }
        me.turn++;
        if (me.thread < pool.threads)
            pool.task(pool.argument, me.thread, pool.threads);
        /* Every worker answers for every job, even one that it takes no part in: none can come late
         * and read the next job's fields while they are being written. */
        atomic_fetch_sub_explicit(&pool.unfinished, 1, memory_order_release);
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
        *w = (worker){pool.workers + 1, atomic_load(&pool.turn)};
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

void cc_parallel(int wanted, void (*task)(void *, int, int), void *argument)
{
    if (wanted > 1)
        pthread_once(&once, register_fork); /* before a fork can find the pool owned */
    if (wanted <= 1 || pthread_mutex_trylock(&pool.owner) != 0) {
        task(argument, 0, 1);
        return;
    }
    start_workers((wanted < CC_MOST_THREADS ? wanted : CC_MOST_THREADS) - 1);
    const int threads = wanted <= pool.workers ? wanted : pool.workers + 1;
    pool.task = task;
    pool.argument = argument;
    pool.threads = threads;
    atomic_store(&pool.unfinished, pool.workers);
    atomic_fetch_add(&pool.turn, 1);
    pthread_mutex_lock(&pool.mutex);
    if (pool.sleepers)
        pthread_cond_broadcast(&pool.wake);
    pthread_mutex_unlock(&pool.mutex);
    task(argument, 0, threads);
    for (int spins = 0; atomic_load_explicit(&pool.unfinished, memory_order_acquire) > 0; spins++)
        if (spins < SPINS_BEFORE_YIELD)
            cpu_relax();
        else
            sched_yield();
    pthread_mutex_unlock(&pool.owner);
}

void cc_barrier_wait(cc_barrier *b, int threads, void (*serial)(void *), void *argument)
{
    const int turn = atomic_load_explicit(&b->turn, memory_order_relaxed);
    if (atomic_fetch_add(&b->waiting, 1) == threads - 1) {
        serial(argument);
        atomic_store_explicit(&b->waiting, 0, memory_order_relaxed);
        atomic_store_explicit(&b->turn, turn + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&b->turn, memory_order_acquire) == turn; spins++)
        if (spins < SPINS_BEFORE_YIELD)
            cpu_relax();
        else
            sched_yield();
}

/* ---- how many ------------------------------------------------------------------------------------ */

static int positive_from_environment(const char *name)
{
    const char *text = getenv(name);
    const long n = text ? strtol(text, NULL, 10) : 0;
    return n > 0 && n <= CC_MOST_THREADS ? (int)n : 0;
}

/* CPUs that a container's quota amounts to, rounded up; a large number if there is no quota. */
static int container_cpus(void)
{
    double quota = -1, period = -1;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (f) {
        if (fscanf(f, "%lf %lf", &quota, &period) != 2)
            quota = -1; /* "max" */
        fclose(f);
    } else if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re"))) {
        if (fscanf(f, "%lf", &quota) != 1)
            quota = -1;
        fclose(f);
        if ((f = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re"))) {
            if (fscanf(f, "%lf", &period) != 1)
                period = -1;
            fclose(f);
        }
    }
    if (quota <= 0 || period <= 0)
        return CC_MOST_THREADS;
    const int cpus = (int)((quota + period - 1) / period);
    return cpus < 1 ? 1 : cpus;
}

static int default_threads(void)
{
    int n = positive_from_environment("CONVCORE_NUM_THREADS");
    if (!n)
        n = positive_from_environment("OMP_NUM_THREADS");
    if (n)
        return n;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) /* fails on more CPUs than the set can hold */
        n = CPU_COUNT(&set);
    else
#endif
        n = (int)sysconf(_SC_NPROCESSORS_ONLN);
    const int limit = container_cpus();
    n = n < limit ? n : limit;
    return n < 1 ? 1 : n > CC_MOST_THREADS ? CC_MOST_THREADS : n;
}

static _Atomic int num_threads;

int cc_get_num_threads(void)
{
    int n = atomic_load(&num_threads);
    if (n == 0) {
        n = default_threads();
        atomic_store(&num_threads, n);
    }
    return n;
}

cc_status cc_set_num_threads(int threads)
{
    if (threads < 1 || threads > CC_MOST_THREADS)
        return CC_ERROR_ARGUMENT;
    atomic_store(&num_threads, threads);
    return CC_OK;
}
