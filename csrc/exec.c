/* Runs an array of steps in one parallel region: threads share the items of a phase, meet at a barrier,
 * and go on to the next. Who computes an item never changes what is computed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "table.h"
#include "threads.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Below this estimate, waking the pool costs more than it saves, and nobody has to be asked meanwhile. */
static const double WORTH_SHARING_SECONDS = 20e-6;
static const double POLL_SECONDS = 0.05;

/* What threads write lies this far apart at least: two lines, for neighbours are fetched in pairs. */
enum { LINE = 128 };

/* A thread's own run of the items of a phase: how many of them are taken. */
typedef struct queue {
    _Alignas(LINE) _Atomic int64_t taken;
} queue;

typedef struct run {
    const cc_step *steps;
    int64_t count;
    void *const *buffers;
    cc_run_options options;
    cc_barrier barrier;
    queue *queues;         /* one for every thread, if there are several */
    int threads;           /* that queues and scratch memory are there for */
    _Atomic int cancelled; /* as soon as the caller says so */
    int stopped;           /* the same at the last barrier: what all threads agree about */
    double begun;          /* when the caller came: others may be done before thread 0 has started */
    double polled;         /* thread 0's own */
    char *scratch;         /* scratch_bytes for every thread */
    int64_t scratch_bytes;
} run;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Items that take a few tens of milliseconds at most, by a pessimistic estimate (portable code, memory
 * far away): whoever has begun them does not look at `cancelled`. */
static int64_t most_at_once(const cc_step *step, int64_t items)
{
    const double item_seconds = (step->flops + step->bytes) / 1e9 / (double)step->phases / (double)items;
    const double most = POLL_SECONDS / 2 / (item_seconds + 1e-12);
    return most < 1 ? 1 : most < (double)items ? (int64_t)most : items;
}

/* Between two phases, on one thread. */
static void next_phase(void *argument)
{
    run *r = argument;
    for (int t = 0; t < r->threads; t++)
        atomic_store_explicit(&r->queues[t].taken, 0, memory_order_relaxed);
    r->stopped = atomic_load_explicit(&r->cancelled, memory_order_relaxed);
}

/* Takes the next share of a phase. Each thread has a run of neighbouring items of its own, the same part of
 * every phase, so that it mostly reads what it has written itself, which is in its own caches. It takes a
 * quarter of the rest at a time; when its own run is finished it helps the others with theirs. Shares
 * shrink, so threads finish together even if one of them is slowed down. */
static int64_t take(run *r, int64_t items, int64_t most, int thread, int threads, int64_t *begin)
{
    for (int i = 0; i < threads; i++) {
        const int t = thread + i < threads ? thread + i : thread + i - threads;
        const int64_t first = items * t / threads, count = items * (t + 1) / threads - first;
        _Atomic int64_t *const taken = &r->queues[t].taken;
        int64_t at = atomic_load_explicit(taken, memory_order_relaxed);
        while (at < count) {
            int64_t n = (count - at) / 4;
            n = n < 1 ? 1 : n < most ? n : most;
            if (atomic_compare_exchange_weak_explicit(taken, &at, at + n, memory_order_relaxed, memory_order_relaxed)) {
                *begin = first + at;
                return n;
            }
        }
    }
    return 0;
}

static void poll_caller(run *r)
{
    if (!r->options.poll)
        return;
    const double now = seconds_now();
    if (now - r->polled < POLL_SECONDS)
        return;
    r->polled = now;
    if (r->options.poll(r->options.poll_argument))
        atomic_store(&r->cancelled, 1);
}

static void run_alone(run *r, const cc_step *step, int64_t phase)
{
    const cc_call call = {r->buffers, r->scratch, phase};
    const int64_t items = step->items[phase % step->period];
    const int64_t piece = r->options.poll ? most_at_once(step, items) : items;
    for (int64_t i = 0; i < items && !atomic_load_explicit(&r->cancelled, memory_order_relaxed); i += piece) {
        step->kernel(step, &call, i, i + piece < items ? i + piece : items);
        poll_caller(r);
    }
}

static void run_share(void *argument, int thread, int threads)
{
    run *r = argument;
    double mark = r->begun; /* steps are timed end to end: a late thread's wait belongs to some step */
    if (thread == 0)
        r->polled = mark;
    for (int64_t s = 0; s < r->count; s++) {
        const cc_step *step = &r->steps[s];
        for (int64_t phase = 0; phase < step->phases; phase++) {
            if (threads == 1) {
                run_alone(r, step, phase);
                continue;
            }
            const int64_t items = step->items[phase % step->period], most = most_at_once(step, items);
            const cc_call call = {r->buffers, r->scratch + thread * r->scratch_bytes, phase};
            int64_t begin, n;
            while ((n = take(r, items, most, thread, threads, &begin)) > 0) {
                if (atomic_load_explicit(&r->cancelled, memory_order_relaxed))
                    continue;
                step->kernel(step, &call, begin, begin + n);
                if (thread == 0)
                    poll_caller(r);
            }
            cc_barrier_wait(&r->barrier, threads, next_phase, r);
            if (r->stopped)
                return;
        }
        if (r->options.seconds && thread == 0) {
            const double now = seconds_now();
            r->options.seconds[s] = now - mark;
            mark = now;
        }
        if (atomic_load_explicit(&r->cancelled, memory_order_relaxed) && threads == 1)
            return;
    }
}

cc_status cc_run(const cc_step *steps, int64_t count, void *const *buffers, const cc_run_options *options)
{
    if (count < 0 || (count > 0 && (!steps || !buffers)))
        return CC_ERROR_ARGUMENT;
    run r = {.steps = steps, .count = count, .buffers = buffers};
    if (options)
        r.options = *options;
    double estimate = 0;
    for (int64_t s = 0; s < count; s++) {
        if (!steps[s].kernel || (steps[s].packed_floats > 0 && !steps[s].weights))
            return CC_ERROR_ARGUMENT;
        if (steps[s].scratch_bytes > r.scratch_bytes)
            r.scratch_bytes = steps[s].scratch_bytes;
        estimate += steps[s].flops / 50e9 + steps[s].bytes / 20e9;
    }
    int threads = r.options.threads > 0 ? r.options.threads : cc_get_num_threads();
    if (estimate < WORTH_SHARING_SECONDS) {
        threads = 1;
        r.options.poll = NULL;
    }
    if (threads > CC_MOST_THREADS)
        threads = CC_MOST_THREADS;
    r.scratch_bytes = (r.scratch_bytes + LINE - 1) / LINE * LINE;
    r.threads = threads > 1 ? threads : 0;
    const size_t queues = (size_t)r.threads * sizeof(queue), bytes = queues + (size_t)(threads * r.scratch_bytes);
    void *memory = NULL;
    if (bytes > 0) {
        if (posix_memalign(&memory, LINE, bytes) != 0)
            return CC_ERROR_MEMORY;
        r.queues = memory;
        r.scratch = (char *)memory + queues;
        memset(r.queues, 0, queues);
    }
    if (r.options.poll || r.options.seconds)
        r.begun = seconds_now();
    cc_parallel(threads, run_share, &r);
    free(memory);
    return atomic_load(&r.cancelled) ? CC_ERROR_CANCELLED : CC_OK;
}
