/* What the machine has beside instruction sets (those are in convcore.h). Private to libconvcore. */
#ifndef CC_CPU_H
#define CC_CPU_H

#include <stdint.h>

/* Bytes of the last level of cache that this CPU shares with its neighbours; asked for once. */
int64_t cc_last_level_cache(void);

#endif
