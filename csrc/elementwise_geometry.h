/* Where the elementwise family keeps its geometry in cc_step.detail: what choose_elementwise.c writes and
 * the kernels read. An item is `rows` whole rows, or one piece of one row: piece p of `pieces` is columns
 * [p*piece, (p+1)*piece). A row is the last axis of the (collapsed) views. `stream` is 1 where the output goes
 * past the caches (cc_streams).
 * CC_AFFINE's scale and offset are packed over and over, one block longer than a row, so that a block of a
 * row of rows can begin at any channel. */
#ifndef CC_ELEMENTWISE_GEOMETRY_H
#define CC_ELEMENTWISE_GEOMETRY_H

enum { ELEMENTWISE_ROWS, ELEMENTWISE_PIECE, ELEMENTWISE_PIECES, ELEMENTWISE_STREAM, AFFINE_CHANNELS };

enum { ELEMENTWISE_BLOCK = 1024 }; /* floats: two or three such blocks stay in the L1 cache */

#endif
