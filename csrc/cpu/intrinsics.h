// Vector intrinsics, for units that are compiled with them.
#pragma once

#if defined(__AVX2__)
// gcc 12 warns of its own AVX-512 header, whose "undefined" vectors initialise themselves (gcc bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <immintrin.h>
#pragma GCC diagnostic pop
#endif
