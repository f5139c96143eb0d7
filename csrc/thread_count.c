/* How many threads a call uses: what the environment says, else the CPUs that affinity and containers leave. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "threads.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_PATH = 4096 };

static int positive_from_environment(const char *name)
{
    const char *text = getenv(name);
    const long n = text ? strtol(text, NULL, 10) : 0;
    return n > 0 && n <= CC_MOST_THREADS ? (int)n : 0;
}

/* ---- containers ---------------------------------------------------------------------------------- */

static int at_most(double quota, double period)
{
    if (quota <= 0 || period <= 0)
        return CC_MOST_THREADS;
    const double cpus = (quota + period - 1) / period;
    return cpus < 1 ? 1 : cpus < CC_MOST_THREADS ? (int)cpus : CC_MOST_THREADS;
}

static FILE *open_in(const char *folder, const char *name)
{
    char path[LONGEST_PATH];
    const int length = snprintf(path, sizeof path, "%s/%s", folder, name);
    return length > 0 && length < (int)sizeof path ? fopen(path, "re") : NULL;
}

static double number_in(const char *folder, const char *name)
{
    double number = -1;
    FILE *f = open_in(folder, name);
    if (f) {
        if (fscanf(f, "%lf", &number) != 1)
            number = -1;
        fclose(f);
    }
    return number;
}

/* The quota of one control group: version 2 has a file "QUOTA PERIOD" or "max PERIOD", version 1 two files. */
static int group_cpus(const char *folder)
{
    double quota = -1, period = -1;
    FILE *f = open_in(folder, "cpu.max");
    if (f) {
        if (fscanf(f, "%lf %lf", &quota, &period) != 2)
            quota = -1; /* "max" */
        fclose(f);
        return at_most(quota, period);
    }
    return at_most(number_in(folder, "cpu.cfs_quota_us"), number_in(folder, "cpu.cfs_period_us"));
}

static int least(int a, int b) { return a < b ? a : b; }

/* The least quota of group `path` below `mount` and of all groups around it. Where the process sees only its own
 * part of the tree, as in most containers, its group is the root there, and `path` may not exist. */
static int path_cpus(const char *mount, const char *path)
{
    char folder[LONGEST_PATH];
    const size_t root = strlen(mount);
    int cpus = CC_MOST_THREADS, length = snprintf(folder, sizeof folder, "%s%s", mount, path);
    if (length < 0 || length >= (int)sizeof folder)
        folder[root < sizeof folder ? root : 0] = 0;
    for (;;) {
        cpus = least(cpus, group_cpus(folder));
        char *const last = strrchr(folder, '/');
        if (strlen(folder) <= root || !last)
            return cpus;
        *last = 0;
    }
}

/* Whether `name` is one of the comma-separated `names`. */
static int is_among(const char *names, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = names; (at = strstr(at, name)); at += length)
        if ((at == names || at[-1] == ',') && (at[length] == 0 || at[length] == ','))
            return 1;
    return 0;
}

int cc_container_cpus(const char *groups, const char *root)
{
    char line[LONGEST_PATH], mount[LONGEST_PATH];
    int cpus = path_cpus(root, ""), length;
    length = snprintf(mount, sizeof mount, "%s/cpu", root); /* version 1, wherever the process is in it */
    if (length > 0 && length < (int)sizeof mount)
        cpus = least(cpus, path_cpus(mount, ""));
    FILE *f = fopen(groups, "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *const controllers = strchr(line, ':'), *const path = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!path)
            continue;
        *path = 0;
        if (controllers[1] == 0) /* version 2 */
            cpus = least(cpus, path_cpus(root, path + 1));
        else if (is_among(controllers + 1, "cpu")) { /* mounted under the controllers' names */
            length = snprintf(mount, sizeof mount, "%s/%s", root, controllers + 1);
            if (length > 0 && length < (int)sizeof mount)
                cpus = least(cpus, path_cpus(mount, path + 1));
        }
    }
    if (f)
        fclose(f);
    return cpus;
}

/* ---- all of it ----------------------------------------------------------------------------------- */

static const char *const origins[] = {"cpus", "affinity", "container", "CONVCORE_NUM_THREADS", "OMP_NUM_THREADS",
                                      "cc_set_num_threads"};
enum { CPUS, AFFINITY, CONTAINER, CONVCORE_VARIABLE, OMP_VARIABLE, CALLER };

/* Number and origin in one: (origin << 16) + number, 0 as long as nobody asked. */
static _Atomic int setting;

static int with_origin(int threads, int origin) { return origin << 16 | threads; }

static int first_setting(void)
{
    int n = positive_from_environment("CONVCORE_NUM_THREADS");
    if (n)
        return with_origin(n, CONVCORE_VARIABLE);
    n = positive_from_environment("OMP_NUM_THREADS");
    if (n)
        return with_origin(n, OMP_VARIABLE);
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    int origin = CPUS;
    n = online < 1 ? 1 : online < CC_MOST_THREADS ? (int)online : CC_MOST_THREADS;
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) < n) { /* fails beyond what a set can hold */
        n = CPU_COUNT(&set);
        origin = AFFINITY;
    }
    const int limit = cc_container_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
    if (limit < n) {
        n = limit;
        origin = CONTAINER;
    }
#endif
    return with_origin(n < 1 ? 1 : n, origin);
}

static int current_setting(void)
{
    int s = atomic_load(&setting);
    if (s == 0) {
        int nothing = 0;
        s = first_setting();
        if (!atomic_compare_exchange_strong(&setting, &nothing, s))
            s = nothing; /* somebody else was first */
    }
    return s;
}

int cc_get_num_threads(void) { return current_setting() & 0xffff; }

const char *cc_num_threads_origin(void) { return origins[current_setting() >> 16]; }

cc_status cc_set_num_threads(int threads)
{
    if (threads < 1 || threads > CC_MOST_THREADS)
        return CC_ERROR_ARGUMENT;
    atomic_store(&setting, with_origin(threads, CALLER));
    return CC_OK;
}
