/* Runs an array of steps in one parallel region: threads share the items of a phase, and whoever finishes the last
 * of them begins the next. Nobody waits for a thread that has no item in hand: one that comes late, or is not run
 * for a while, finds its items done by others. Who computes an item never changes what is computed. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "table.h"
#include "threads.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Below this estimate even a worker that is awake costs more than it saves, and nobody has to be asked meanwhile. */
static const double WORTH_SHARING_SECONDS = 5e-6;
static const double POLL_SECONDS = 0.05;

/* What threads write lies this far apart at least: two lines, for neighbours are fetched in pairs. */
enum { LINE = 128 };

/* A thread's own run of the items of a phase. */
typedef struct queue {
    _Alignas(LINE) _Atomic int64_t taken; /* how many of them, plus the items of all phases before */
} queue;

/* Where a thread is. */
typedef struct place {
    int64_t step, phase;
    int64_t before; /* items of all phases before this one */
} place;

typedef struct run {
    const cc_step *steps;
    int64_t count;
    void *const *buffers;
    cc_run_options options;
    queue *queues;         /* one for every thread, if there are several */
    int threads;           /* that queues and scratch memory are there for */
    _Atomic int cancelled; /* as soon as the caller says so */
    double polled;         /* thread 0's own */
    double mark;           /* when the step at hand was begun */
    char *scratch;         /* scratch_bytes for every thread */
    int64_t scratch_bytes;
    _Alignas(LINE) _Atomic int64_t before;     /* of the phase at hand; see place */
    _Alignas(LINE) _Atomic int64_t unfinished; /* items of the phase at hand */
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

static int64_t items_of(const run *r, const place *at)
{
    const cc_step *step = &r->steps[at->step];
    return step->items[at->phase % step->period];
}

static void go_on(const run *r, place *at)
{
    at->before += items_of(r, at);
    if (++at->phase == r->steps[at->step].phases)
        *at = (place){at->step + 1, 0, at->before};
}

/* Takes the next share of a phase. Each thread has a run of neighbouring items of its own, the same part of
 * every phase, so that it mostly reads what it has written itself, which is in its own caches. It takes a
 * quarter of the rest at a time; when its own run is finished it helps the others with theirs. Shares
 * shrink, so threads finish together even if one of them is slowed down.
 *
 * Counts go on from phase to phase: to a thread that has been left behind, its phase looks finished. */
static int64_t take(run *r, const place *at, int64_t most, int thread, int64_t *begin)
{
    const int64_t items = items_of(r, at);
    for (int i = 0; i < r->threads; i++) {
        const int t = thread + i < r->threads ? thread + i : thread + i - r->threads;
        const int64_t first = items * t / r->threads, end = at->before + items * (t + 1) / r->threads - first;
        _Atomic int64_t *const taken = &r->queues[t].taken;
        int64_t next = atomic_load_explicit(taken, memory_order_relaxed);
        while (next < end) {
            int64_t n = (end - next) / 4;
            n = n < 1 ? 1 : n < most ? n : most;
            if (atomic_compare_exchange_weak_explicit(taken, &next, next + n, memory_order_relaxed,
                                                      memory_order_relaxed)) {
                *begin = first + next - at->before;
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

static int is_cancelled(run *r) { return atomic_load_explicit(&r->cancelled, memory_order_relaxed); }

/* At the end of a step: the time since the end of the one before. */
static void note_seconds(run *r, int64_t step)
{
    if (r->options.seconds) {
        const double now = seconds_now();
        r->options.seconds[step] = now - r->mark;
        r->mark = now;
    }
}

static void run_alone(run *r)
{
    for (int64_t s = 0; s < r->count; s++) {
        const cc_step *step = &r->steps[s];
        for (int64_t phase = 0; phase < step->phases; phase++) {
            const cc_call call = {r->buffers, r->scratch, phase};
            const int64_t items = step->items[phase % step->period];
            const int64_t piece = r->options.poll ? most_at_once(step, items) : items;
            for (int64_t i = 0; i < items; i += piece) {
                step->kernel(step, &call, i, i + piece < items ? i + piece : items);
                poll_caller(r);
                if (is_cancelled(r))
                    return;
            }
        }
        note_seconds(r, s);
    }
}

/* Makes the phase at `at` the one at hand: by one thread, when nothing is left of the one before. */
static void begin_phase(run *r, const place *at)
{
    for (int t = 0; t < r->threads; t++)
        atomic_store_explicit(&r->queues[t].taken, at->before, memory_order_relaxed);
    if (at->step < r->count)
        atomic_store_explicit(&r->unfinished, items_of(r, at), memory_order_relaxed);
    atomic_store_explicit(&r->before, at->before, memory_order_release);
}

/* Does what is left to take of a phase. Returns whether that finished it. */
static int work_on(run *r, const place *at, int thread)
{
    const cc_step *step = &r->steps[at->step];
    const cc_call call = {r->buffers, r->scratch + thread * r->scratch_bytes, at->phase};
    const int64_t most = most_at_once(step, items_of(r, at));
    int64_t begin, n, done = 0;
    while (!is_cancelled(r) && (n = take(r, at, most, thread, &begin)) > 0) {
        step->kernel(step, &call, begin, begin + n);
        done += n;
        if (thread == 0)
            poll_caller(r);
    }
    return done > 0 && atomic_fetch_sub_explicit(&r->unfinished, done, memory_order_acq_rel) == done;
}

static void run_share(void *argument, int thread, int threads)
{
    run *r = argument;
    if (threads == 1) {
        run_alone(r);
        return;
    }
    place at = {0};
    while (at.step < r->count) {
        if (work_on(r, &at, thread)) {
            const int64_t step = at.step;
            go_on(r, &at);
            if (at.step > step)
                note_seconds(r, step);
            begin_phase(r, &at);
            continue;
        }
        int64_t before;
        for (int spins = 0; (before = atomic_load_explicit(&r->before, memory_order_acquire)) == at.before; spins++) {
            if (is_cancelled(r))
                return;
            cc_wait_a_little(spins);
        }
        while (at.before < before)
            go_on(r, &at);
    }
}

cc_status cc_run(const cc_step *steps, int64_t count, void *const *buffers, const cc_run_options *options)
{
    if (count < 0 || (count > 0 && (!steps || !buffers)))
        return CC_ERROR_ARGUMENT;
    run r = {.steps = steps, .count = count, .buffers = buffers};
    if (options)
        r.options = *options;
    double estimate = 0; /* seconds, of one thread */
    for (int64_t s = 0; s < count; s++) {
        if (!steps[s].kernel || (steps[s].packed_floats > 0 && !steps[s].weights))
            return CC_ERROR_ARGUMENT;
        if (steps[s].scratch_bytes > r.scratch_bytes)
            r.scratch_bytes = steps[s].scratch_bytes;
        estimate += steps[s].flops / 50e9 + steps[s].bytes / 60e9;
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
    }
    begin_phase(&r, &(place){0});
    if (r.options.poll || r.options.seconds)
        r.polled = r.mark = seconds_now();
    cc_parallel(threads, estimate, run_share, &r);
    free(memory);
    return atomic_load(&r.cancelled) ? CC_ERROR_CANCELLED : CC_OK;
}
