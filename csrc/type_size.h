/* How many bytes an element of a cc_type has. */
#ifndef CC_TYPE_SIZE_H
#define CC_TYPE_SIZE_H

#include "convcore.h"

static inline int64_t cc_type_size(int32_t type)
{
    switch (type) {
    case CC_I8:
    case CC_U8:
        return 1;
    case CC_I16:
    case CC_U16:
        return 2;
    case CC_F64:
        return 8;
    default:
        return 4;
    }
}

#endif
