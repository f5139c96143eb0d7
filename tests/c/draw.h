/* Random steps that cc_choose must take. */
#ifndef DRAW_H
#define DRAW_H

#include "check.h"

typedef struct drawn {
    cc_step step; /* without isa; weights and workspace are for later */
    int64_t span[3]; /* elements of the buffers IN, IN2, OUT; 0 where there is none */
    int64_t weights, bias; /* floats that cc_pack takes; bias may be 0 */
    int64_t tile; /* CC_CONV: Winograd's F(tile x tile, 3x3) must be chosen; 0: the direct sum */
} drawn;

enum { MOST_HU_ROWS = 3 };

void draw_step(int operation, drawn *d);

#endif
