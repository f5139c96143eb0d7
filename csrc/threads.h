/* The one thread pool of the process. Nothing else in the library knows about threads. */
#ifndef CC_THREADS_H
#define CC_THREADS_H

#include "convcore.h"

enum { CC_MOST_THREADS = 256 };

/* Runs task(argument, thread, threads) on the caller, as thread 0, and on those of up to `wanted` - 1 workers who
 * come before the caller is done: any or none, so the caller must be able to do all of the work. Returns when all
 * who came are done. `seconds`, about as long as the work would take one thread, says whether it is worth waking
 * them. `threads` is 1 if another caller has the pool just now, so that concurrent callers do not wait for each
 * other. */
void cc_parallel(int wanted, double seconds, void (*task)(void *argument, int thread, int threads), void *argument);

/* One turn, after `spins` others, of a loop that waits for another thread. */
void cc_wait_a_little(int spins);

/* CPUs that the quotas of the process's control groups amount to, rounded up; CC_MOST_THREADS if there is none.
 * `groups` is /proc/self/cgroup and `root` /sys/fs/cgroup, except in tests. */
int cc_container_cpus(const char *groups, const char *root);

#endif
