// Source: Goto and van de Geijn (2008), Anatomy of high-performance matrix multiplication, ACM Trans. Math. Softw. 34.
#include "packing.h"

#include "tiles.h"

namespace deeplinear {
namespace {

constexpr int BLOCK_ROWS = 256, BLOCK_DEPTH = 256;  // half a megabyte: within the second cache
constexpr int TILE_ROWS = ROWS_BESIDE[MOST_VECTORS - 1];
constexpr size_t BLOCK = size_t(BLOCK_ROWS) * BLOCK_DEPTH, PANEL = size_t(BLOCK_DEPTH) * MOST_VECTORS * LANES;

// Copies are lost on fewer rows or columns than this, and on fewer multiplications in all: with AVX-512 products read
// twice as much at once, so that pages matter later.
constexpr int LEAST_SIDE = 64;
#ifdef __AVX512F__
constexpr double LEAST_WORK = 512.0 * 512.0 * 512.0;
#else
constexpr double LEAST_WORK = 200.0 * 200.0 * 200.0;
#endif

// C = or += a tile of rows from a block of A, entries of a column side by side, times a panel of B without gaps.
template <class V, int ROWS, int VECTORS>
void packed_tile(double *c, size_t stride, const double *a, const double *b, int inner, bool adds) {
    constexpr size_t LENGTH = sizeof(V) / sizeof(double);
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) __builtin_prefetch(c + r * stride + v * LENGTH, 1);
    V sums[ROWS][VECTORS] = {};
    accumulate(sums, a, 1, ROWS, b, VECTORS * LENGTH, inner);
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int v = 0; v < VECTORS; v++) {
            double *to = c + r * stride + v * LENGTH;
            store(to, adds ? load<V>(to) + sums[r][v] : sums[r][v]);
        }
}

using PackedTile = void (*)(double *, size_t, const double *, const double *, int, bool);
template <class V> constexpr PackedTile PACKED_TILES[MOST_VECTORS][MOST_ROWS] = DEEPLINEAR_TILES(packed_tile);

// Tiles of rows one after another, each column by column.
void pack_rows(double *to, const double *a, size_t down, size_t along, int rows, int inner) {
    in_parts(rows, TILE_ROWS, [&](int top, int high) {
        const double *from = a + size_t(top) * down;
        for (int k = 0; k < inner; k++, from += along)
            for (int r = 0; r < high; r++) *to++ = from[size_t(r) * down];
    });
}

void pack_panel(double *to, const double *b, size_t stride, int vectors, int inner) {
    for (int k = 0; k < inner; k++, b += stride)
        for (int v = 0; v < vectors; v++, to += LANES) store(to, load<Wide>(b + size_t(v) * LANES));
}

}  // namespace

size_t room_to_pack(int widest) {
    return widest >= LEAST_SIDE && double(widest) * widest * widest >= LEAST_WORK ? BLOCK + PANEL : 0;
}

bool is_packed(const Matrix &C, const Factors *terms, int count) {
    if (C.rows < LEAST_SIDE || C.columns < LEAST_SIDE) return false;
    double inner = 0;
    for (int t = 0; t < count; t++) inner += terms[t].inner;
    return inner >= LEAST_SIDE && double(C.rows) * C.columns * inner >= LEAST_WORK;
}

void multiply_packed(const Matrix &C, const Factors *terms, int count, double *room) {
    const int vectors = int((size_t(C.columns) + 7) / 8 * 8 / LANES);
    double *const block = room, *const panel = room + BLOCK;
    bool adds = false;
    for (const Factors *term = terms; term < terms + count; term++)
        in_parts(term->inner, BLOCK_DEPTH, [&](int begin, int deep) {
            in_parts(C.rows, BLOCK_ROWS, [&](int top, int rows) {
                pack_rows(block, term->a + size_t(top) * term->down + size_t(begin) * term->along, term->down,
                          term->along, rows, deep);
                in_parts(vectors, MOST_VECTORS, [&](int left, int wide) {
                    const size_t column = size_t(left) * LANES;
                    pack_panel(panel, term->b + size_t(begin) * term->stride + column, term->stride, wide, deep);
                    in_parts(rows, TILE_ROWS, [&](int down, int high) {
                        PACKED_TILES<Wide>[wide - 1][high - 1](C.row(top + down) + column, C.stride,
                                                               block + size_t(down) * deep, panel, deep, adds);
                    });
                });
            });
            adds = true;
        });
}

}  // namespace deeplinear
