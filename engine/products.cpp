// Register-blocked products: a tile of C stays in registers while the whole inner index runs. B is read in vectors
// along its rows, A entry by entry, so that A may as well be transposed. Nothing is packed unless packing.h
// says so: up to a few hundred wide, and always between wide inputs and few outputs, the matrices lie in the first two
// caches as they are.
#include "products.h"

#include "packing.h"
#include "tiles.h"

namespace deeplinear {
namespace {

// Rows of narrow matrices are whole vectors of 4.
#ifdef __AVX__
typedef Vector4 Narrow;
#else
typedef Wide Narrow;
#endif

template <class V, int ROWS, int VECTORS>
void tile(double *c, size_t stride, const Factors *terms, int count, size_t top, size_t left) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    V sums[ROWS][VECTORS] = {};
    for (const Factors *term = terms; term < terms + count; term++) {
        const double *a = term->a + top * term->down, *b = term->b + left;
        accumulate(sums, a, term->down, term->along, b, term->stride, term->inner);
    }
    c += top * stride + left;
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) store(c + r * stride + v * LENGTH, sums[r][v]);
}

using Tile = void (*)(double *, size_t, const Factors *, int, size_t, size_t);
template <class V> constexpr Tile TILES[MOST_VECTORS][MOST_ROWS] = DEEPLINEAR_TILES(tile);

// C in panels of up to three vectors, each in tiles.
template <class V> void in_tiles(const Matrix &C, size_t width, const Factors *terms, int count) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    in_parts(int(width / LENGTH), MOST_VECTORS, [&](int left, int wide) {
        in_parts(C.rows, ROWS_BESIDE[wide - 1], [&](int top, int high) {
            TILES<V>[wide - 1][high - 1](C.at, C.stride, terms, count, size_t(top), size_t(left) * LENGTH);
        });
    });
}

}  // namespace

void multiply(const Matrix &C, const Factors *terms, int count, double *room) {
    if (room && is_packed(C, terms, count)) return multiply_packed(C, terms, count, room);
    // the padding of a row is computed too: zeros times zeros
    if (C.columns <= NARROW)
        in_tiles<Narrow>(C, (size_t(C.columns) + 3) / 4 * 4, terms, count);
    else
        in_tiles<Wide>(C, (size_t(C.columns) + 7) / 8 * 8, terms, count);
}

void transpose(const Matrix &A, const Matrix &B) {
    for (int i = 0; i < A.rows; i += 4)
        for (int j = 0; j < A.columns; j += 4) {
            const double *from = A.row(i) + j;
            const Vector4 a = load<Vector4>(from), b = load<Vector4>(from + A.stride),
                          c = load<Vector4>(from + 2 * A.stride), d = load<Vector4>(from + 3 * A.stride);
            const Vector4 ab_even = __builtin_shufflevector(a, b, 0, 4, 2, 6),
                          ab_odd = __builtin_shufflevector(a, b, 1, 5, 3, 7),
                          cd_even = __builtin_shufflevector(c, d, 0, 4, 2, 6),
                          cd_odd = __builtin_shufflevector(c, d, 1, 5, 3, 7);
            double *to = B.row(j) + i;
            const int rows = B.rows - j;  // B may end here
            store(to, __builtin_shufflevector(ab_even, cd_even, 0, 1, 4, 5));
            if (rows > 1) store(to + B.stride, __builtin_shufflevector(ab_odd, cd_odd, 0, 1, 4, 5));
            if (rows > 2) store(to + 2 * B.stride, __builtin_shufflevector(ab_even, cd_even, 2, 3, 6, 7));
            if (rows > 3) store(to + 3 * B.stride, __builtin_shufflevector(ab_odd, cd_odd, 2, 3, 6, 7));
        }
}

}  // namespace deeplinear
