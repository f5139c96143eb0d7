/* The thread pool: the same bits from callers at once, in forked children and after cancelling.
 *
 *     threads_check [no-fork]      (ThreadSanitizer knows nothing of forked threads) */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "check.h"
#include "threads.h"

#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { SIDE = 24, CHANNELS = 17, FLOATS = SIDE * SIDE * CHANNELS, STEPS = 6, RUNS = 25, CALLERS = 4 };

/* A small network: convolutions there and back between two buffers, each through a workspace. */
typedef struct network {
    cc_step steps[STEPS];
    memory packed, workspace;
} network;

static void build(network *n)
{
    cc_isa isa = CC_ISA_SCALAR;
    const int64_t shape[5] = {1, 1, SIDE, SIDE, CHANNELS};
    cc_step s = {.operation = CC_CONV, .groups = 1, .workspace_buffer = WORKSPACE, .activation = {.kind = CC_RELU}};
    CHECK(cc_default_isa(&isa) == CC_OK, "CONVCORE_ISA");
    s.isa = (int32_t)isa;
    for (int a = 0; a < CC_SPATIAL; a++) {
        s.window.kernel[a] = a ? 3 : 1;
        s.window.pad_low[a] = a ? 1 : 0;
        s.window.stride[a] = s.window.dilation[a] = 1;
    }
    for (int i = 0; i < STEPS; i++) {
        s.in = contiguous(i % 2 ? OUT : IN, CC_F32, 5, shape);
        s.out = contiguous(i % 2 ? IN : OUT, CC_F32, 5, shape);
        CHECK(cc_choose(&s) == CC_OK, "cc_choose");
        n->steps[i] = s;
    }
    memory raw = memory_new(9 * CHANNELS * CHANNELS * (int64_t)sizeof(float), 0);
    for (int i = 0; i < 9 * CHANNELS * CHANNELS; i++)
        ((float *)raw.at)[i] = 0.1f * random_float();
    n->packed = memory_new(s.packed_floats * (int64_t)sizeof(float), 0);
    n->workspace = memory_new(s.workspace_bytes, 0);
    CHECK(cc_pack(&s, raw.at, NULL, n->packed.at) == CC_OK, "cc_pack");
    for (int i = 0; i < STEPS; i++)
        n->steps[i].weights = n->packed.at;
    memory_free(&raw);
}

/* The last step writes buffer IN. */
static cc_status run(const network *n, memory *data, memory *other, memory *workspace, const cc_run_options *options)
{
    float *x = data->at;
    for (int i = 0; i < FLOATS; i++)
        x[i] = (float)(i % 101) / 101.0f;
    void *const buffers[BUFFERS] = {data->at, NULL, other->at, workspace->at};
    return cc_run(n->steps, STEPS, buffers, options);
}

typedef struct caller {
    const network *network;
    const memory *expected;
    int wrong;
} caller;

static void *call(void *argument)
{
    caller *c = argument;
    memory data = memory_new(FLOATS * sizeof(float), 0), other = memory_new(FLOATS * sizeof(float), 0);
    memory workspace = memory_new((int64_t)c->network->workspace.bytes, 0);
    for (int i = 0; i < RUNS; i++) {
        const cc_run_options options = {.threads = 1 + i % 4};
        c->wrong += run(c->network, &data, &other, &workspace, &options) != CC_OK ||
                    memcmp(data.at, c->expected->at, data.bytes) != 0 || strlen(cc_cpu_name()) == 0;
    }
    memory_free(&data);
    memory_free(&other);
    memory_free(&workspace);
    return NULL;
}

static void check_callers(const network *n, const memory *expected)
{
    pthread_t threads[CALLERS];
    caller callers[CALLERS];
    for (int i = 0; i < CALLERS; i++) {
        callers[i] = (caller){.network = n, .expected = expected};
        CHECK(pthread_create(&threads[i], NULL, call, &callers[i]) == 0, "pthread_create");
    }
    for (int i = 0; i < CALLERS; i++) {
        pthread_join(threads[i], NULL);
        CHECK(callers[i].wrong == 0, "caller %d: %d of %d runs", i, callers[i].wrong, RUNS);
    }
}

static void note_threads(void *argument, int thread, int threads)
{
    if (thread == 0)
        *(int *)argument = threads;
}

/* The child has none of the parent's workers and must start its own - even if they were at work just
 * then, for a caller that is not there any more. */
static void check_fork(const network *n, const memory *expected, int busy)
{
    pthread_t thread;
    caller other_caller = {.network = n, .expected = expected};
    memory data = memory_new(FLOATS * sizeof(float), 0), other = memory_new(FLOATS * sizeof(float), 0);
    memory workspace = memory_new((int64_t)n->workspace.bytes, 0);
    if (busy)
        CHECK(pthread_create(&thread, NULL, call, &other_caller) == 0, "pthread_create");
    for (int i = 0; i < 5; i++) {
        fflush(stdout);
        const pid_t child = fork();
        if (child == 0) {
            const cc_run_options options = {.threads = 3};
            int threads = 0;
            alarm(60); /* ends a child that waits for workers that it does not have */
            cc_parallel(3, 1, note_threads, &threads);
            if (threads != 3)
                _exit(2);
            for (int k = 0; k < 5; k++)
                if (run(n, &data, &other, &workspace, &options) != CC_OK ||
                    memcmp(data.at, expected->at, data.bytes) != 0)
                    _exit(1);
            _exit(0);
        }
        int status = -1;
        CHECK(child > 0 && waitpid(child, &status, 0) == child, "fork");
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child's results: status %d", status);
    }
    if (busy) {
        pthread_join(thread, NULL);
        CHECK(other_caller.wrong == 0, "forking disturbs the parent");
    }
    memory_free(&data);
    memory_free(&other);
    memory_free(&workspace);
}

static int stop_at_once(void *argument)
{
    ++*(int *)argument;
    return 1;
}

static int go_on(void *argument)
{
    ++*(int *)argument;
    return 0;
}

/* Far more fills than there is time for: cancelled at the first poll, which comes within tens of
 * milliseconds, none of the rest is even begun. */
static void check_cancel(int threads)
{
    enum { MANY = 20000, N = 1 << 20 };
    static cc_step steps[MANY];
    static double seconds[MANY];
    memory out = memory_new(N * (int64_t)sizeof(float), 0);
    cc_step s = {.operation = CC_FILL, .value = 1, .out = contiguous(OUT, CC_F32, 1, (const int64_t[]){N})};
    CHECK(cc_choose(&s) == CC_OK, "cc_choose");
    for (int i = 0; i < MANY; i++) {
        steps[i] = s;
        seconds[i] = -1;
    }
    void *const buffers[BUFFERS] = {[OUT] = out.at};
    int polls = 0;
    const cc_run_options options = {
        .threads = threads, .poll = stop_at_once, .poll_argument = &polls, .seconds = seconds};
    CHECK(cc_run(steps, MANY, buffers, &options) == CC_ERROR_CANCELLED, "not cancelled");
    CHECK(polls == 1, "asked %d times", polls);
    CHECK(seconds[MANY - 1] < 0, "%d threads went through all steps after cancelling", threads);
    memory_free(&out);
}

static void check_poll_and_seconds(const network *n, const memory *expected)
{
    memory data = memory_new(FLOATS * sizeof(float), 0), other = memory_new(FLOATS * sizeof(float), 0);
    memory workspace = memory_new((int64_t)n->workspace.bytes, 0);
    double seconds[STEPS];
    int polls = 0;
    for (int threads = 1; threads <= 3; threads += 2) {
        const cc_run_options options = {
            .threads = threads, .poll = go_on, .poll_argument = &polls, .seconds = seconds};
        for (int i = 0; i < STEPS; i++)
            seconds[i] = -1;
        CHECK(run(n, &data, &other, &workspace, &options) == CC_OK, "polling");
        CHECK(memcmp(data.at, expected->at, data.bytes) == 0, "polling changes the result");
        for (int i = 0; i < STEPS; i++)
            CHECK(seconds[i] >= 0, "step %d took %g s", i, seconds[i]);
    }
    memory_free(&data);
    memory_free(&other);
    memory_free(&workspace);
}

/* How many threads came to a job, and whether the caller stays until one does. */
typedef struct visit {
    _Atomic int came;
    int wait;
} visit;

static void come(void *argument, int thread, int threads)
{
    visit *v = argument;
    (void)threads;
    atomic_fetch_add(&v->came, 1);
    for (int i = 0; thread == 0 && v->wait && i < 10000 && atomic_load(&v->came) == 1; i++)
        usleep(1000);
}

static int visitors(double seconds, int wait)
{
    visit v = {.wait = wait};
    cc_parallel(2, seconds, come, &v);
    return atomic_load(&v.came);
}

/* A short job wakes nobody, and waits for nobody; a long one, and one that comes right after another, does wake. */
static void check_sleepers(void)
{
    for (int i = 0; i < 3; i++) {
        CHECK(visitors(1, 1) == 2, "a long job woke nobody");
        usleep(300000); /* the worker is asleep again */
        CHECK(visitors(1e-6, 0) == 1, "a short job woke a worker");
    }
    int came = 0;
    for (const time_t end = time(NULL) + 10; came < 2 && time(NULL) < end;)
        came = visitors(1e-6, 0);
    CHECK(came == 2, "short jobs one right after the other woke nobody");
}

static char folder[64];

static void write_file(const char *name, const char *text)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    for (char *at = strchr(path + strlen(folder) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = 0;
        mkdir(path, 0700);
        *at = '/';
    }
    FILE *f = fopen(path, "w");
    CHECK(f && fputs(text, f) >= 0, "cannot write the files of control groups");
    if (f)
        fclose(f);
}

static int remove_one(const char *path, const struct stat *what, int type, struct FTW *at)
{
    (void)what, (void)type, (void)at;
    return remove(path);
}

static int container_cpus(const char *groups)
{
    char path[256];
    write_file("groups", groups);
    snprintf(path, sizeof path, "%s/groups", folder);
    return cc_container_cpus(path, folder);
}

/* Quotas of control groups, of both versions, where the system keeps them. */
static void check_containers(void)
{
    snprintf(folder, sizeof folder, "/tmp/threads_check_XXXXXX");
    CHECK(mkdtemp(folder) != NULL, "mkdtemp");
    CHECK(container_cpus("0::/\n") == CC_MOST_THREADS, "a quota where there is none");
    CHECK(cc_container_cpus("/no/such/file", "/no/such/folder") == CC_MOST_THREADS, "a quota without a system");
    write_file("cpu.max", "max 100000\n");
    CHECK(container_cpus("0::/\n") == CC_MOST_THREADS, "max is no quota");
    write_file("a/cpu.max", "450000 100000\n");
    write_file("a/b/cpu.max", "max 100000\n");
    CHECK(container_cpus("0::/a/b\n") == 5, "4.5 CPUs of the group around this one");
    CHECK(container_cpus("0::/a/b/c\n") == 5, "a group that cannot be seen is in those around it");
    write_file("a/b/cpu.max", "150000 100000\n");
    CHECK(container_cpus("0::/a/b\n") == 2, "the least of all groups");
    CHECK(container_cpus("1:memory:/a/b\n0::/\n") == CC_MOST_THREADS, "another controller's group");
    write_file("cpu.max", "50000 100000\n");
    CHECK(container_cpus("0::/\n") == 1, "half a CPU is one thread");
    write_file("cpu.max", "max 100000\n");
    write_file("cpu,cpuacct/x/cpu.cfs_quota_us", "-1\n");
    write_file("cpu,cpuacct/x/cpu.cfs_period_us", "100000\n");
    CHECK(container_cpus("4:cpuset:/x\n3:cpu,cpuacct:/x\n") == CC_MOST_THREADS, "-1 is no quota");
    write_file("cpu,cpuacct/x/cpu.cfs_quota_us", "300000\n");
    CHECK(container_cpus("4:cpuset:/x\n3:cpu,cpuacct:/x\n") == 3, "version 1");
    CHECK(container_cpus("4:cpuset:/x\n3:cpuacct:/x\n") == CC_MOST_THREADS, "cpuacct is not cpu");
    write_file("cpu/cpu.cfs_quota_us", "200000\n");
    write_file("cpu/cpu.cfs_period_us", "100000\n");
    CHECK(container_cpus("") == 2, "version 1, as a container sees its own group");
    CHECK(nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0, "nftw");
}

/* Whoever set the number of threads is named. */
static void check_origin(void)
{
    CHECK(strcmp(cc_num_threads_origin(), "cc_set_num_threads") != 0, "nobody has set it yet");
    const int before = cc_get_num_threads();
    CHECK(cc_set_num_threads(0) == CC_ERROR_ARGUMENT && cc_get_num_threads() == before, "0 threads");
    CHECK(cc_set_num_threads(before) == CC_OK && cc_get_num_threads() == before, "cc_set_num_threads");
    CHECK(strcmp(cc_num_threads_origin(), "cc_set_num_threads") == 0, "the caller has set it");
}

int main(int argc, char **argv)
{
    const int forks = argc < 2 || strcmp(argv[1], "no-fork") != 0;
    static network n;
    random_seed(1);
    check_origin();
    check_containers();
    build(&n);
    memory expected = memory_new(FLOATS * sizeof(float), 0), other = memory_new(FLOATS * sizeof(float), 0);
    const cc_run_options alone = {.threads = 1};
    CHECK(run(&n, &expected, &other, &n.workspace, &alone) == CC_OK, "cc_run");
    check_callers(&n, &expected);
    check_poll_and_seconds(&n, &expected);
    check_sleepers();
    if (forks) {
        check_fork(&n, &expected, 0);
        check_fork(&n, &expected, 1);
    }
    check_cancel(1);
    check_cancel(3);
    check_callers(&n, &expected); /* the pool still works */
    memory_free(&expected);
    memory_free(&other);
    memory_free(&n.packed);
    memory_free(&n.workspace);
    printf("threads_check: %d failures\n", check_failures);
    return check_failures != 0;
}
