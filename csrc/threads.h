/* The one thread pool of the process. Nothing else in the library knows about threads. */
#ifndef CC_THREADS_H
#define CC_THREADS_H

#include "convcore.h"

enum { CC_MOST_THREADS = 256 };

/* Runs task(argument, thread, threads) on up to `wanted` threads, the caller among them as thread 0, and
 * returns when all are done. `threads` is the number that really take part: 1 if another caller has the
 * pool just now, so that concurrent callers do not wait for each other. */
void cc_parallel(int wanted, void (*task)(void *argument, int thread, int threads), void *argument);

typedef struct cc_barrier {
    _Atomic int waiting;
    _Atomic int turn;
} cc_barrier;

/* Returns once all `threads` have come. The last one runs serial(argument) before it lets them go. */
void cc_barrier_wait(cc_barrier *barrier, int threads, void (*serial)(void *argument), void *argument);

#endif
