/* Where the elementwise family keeps its geometry in cc_step.detail: what choose_elementwise.c writes and
 * the kernels read. An item is `rows` whole rows, or one piece of one row: piece p of `pieces` is columns
 * [p*piece, (p+1)*piece). A row is the last axis of the (collapsed) views. */
#ifndef CC_ELEMENTWISE_GEOMETRY_H
#define CC_ELEMENTWISE_GEOMETRY_H

enum { ELEMENTWISE_ROWS, ELEMENTWISE_PIECE, ELEMENTWISE_PIECES };

#endif
