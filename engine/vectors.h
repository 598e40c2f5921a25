// Networks as vectors: arithmetic, and the norm in which errors of a step are measured.
//
// The layers of a network lie one after another in one array, each row in whole vectors (`stride_of`), each layer in
// a multiple of 8 numbers. Padding is zero and stays zero under all of this, so that whole arrays are added and
// multiplied.
#pragma once
#include <math.h>
#include <string.h>

#include "arena.h"

namespace deeplinear {

// Minimum and maximum that hand NaN on, as numpy's do: what is not a number must not look like a small one.
inline double lesser(double a, double b) { return a < b ? a : (b <= a || a == a) ? b : a; }
inline double greater(double a, double b) { return a > b ? a : (b >= a || a == a) ? b : a; }
inline double clipped(double x, double low, double high) { return lesser(greater(x, low), high); }
inline bool is_finite(double x) { return x - x == 0; }

struct Layout {
    int depth;
    const int *widths;     // d_0, ..., d_h; layer l is (d_{l+1}, d_l), counted from 0
    const size_t *offset;  // of layer l; offset[depth] is the length of the whole array
    size_t size() const { return offset[depth]; }

    Matrix layer(double *network, int l) const {
        return {network + offset[l], widths[l + 1], widths[l], stride_of(widths[l])};
    }
    double *network(Arena &arena) const { return arena.array<double>(size()); }
};

inline double dot(const double *a, const double *b, size_t size) {
    Wide sums[2] = {};
    size_t i = 0;
    for (; i + 2 * LANES <= size; i += 2 * LANES) {
        sums[0] += load<Wide>(a + i) * load<Wide>(b + i);
        sums[1] += load<Wide>(a + i + LANES) * load<Wide>(b + i + LANES);
    }
    if (i < size) sums[0] += load<Wide>(a + i) * load<Wide>(b + i);
    return sum_of(sums[0] + sums[1]);
}

// |a|, also where its square is beyond doubles.
inline double norm(const double *a, size_t size) {
    const double square = dot(a, a, size);
    if ((square > 1e-280 && square < 1e300) || square != square) return sqrt(square);
    double largest = 0, sum = 0;
    for (size_t i = 0; i < size; i++) largest = greater(largest, fabs(a[i]));
    if (!(largest > 0) || !is_finite(largest)) return largest;
    for (size_t i = 0; i < size; i++) sum += (a[i] / largest) * (a[i] / largest);
    return largest * sqrt(sum);
}

inline void copy(double *to, const double *from, size_t size) { memcpy(to, from, size * sizeof(double)); }
inline void clear(double *to, size_t size) { memset(to, 0, size * sizeof(double)); }

// out = a + h b; out may be a or b.
inline void plus(double *out, const double *a, double h, const double *b, size_t size) {
    for (size_t i = 0; i < size; i += LANES) store(out + i, load<Wide>(a + i) + h * load<Wide>(b + i));
}

inline void scale(double *out, double factor, const double *a, size_t size) {
    for (size_t i = 0; i < size; i += LANES) store(out + i, factor * load<Wide>(a + i));
}

// One term of a linear combination.
struct Times {
    double factor;
    const double *vector;
};

// out = start + the sum of terms (start null: 0); out may be one of the vectors.
inline void combine(double *out, const double *start, const Times *terms, int count, size_t size) {
    for (size_t i = 0; i < size; i += LANES) {
        Wide sum = start ? load<Wide>(start + i) : Wide{};
        for (int t = 0; t < count; t++) sum += terms[t].factor * load<Wide>(terms[t].vector + i);
        store(out + i, sum);
    }
}

// Root mean square over layers of the Frobenius norm in units of the layer's tolerance. Invariant under rotations of
// hidden layers, as the flow is.
inline double relative_norm(const double *error, const double *sizes, const Layout &layout) {
    double sum = 0;
    for (int l = 0; l < layout.depth; l++) {
        const double *layer = error + layout.offset[l];
        const size_t length = layout.offset[l + 1] - layout.offset[l];
        const double own = norm(layer, length) / sizes[l];
        sum += own * own;
    }
    return sqrt(sum / layout.depth);
}

}  // namespace deeplinear
