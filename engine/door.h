// How problems come in and networks go out: checks, and the changes of variables that make every problem one of the
// field's kind (field.h).
//
// - Where inputs are fewer than outputs, the chain is transposed: W^T = W_1^T ... W_h^T moves by the same flow.
// - Layer rates eta_l are units of length: with W_l = sqrt(eta_l) V_l the flow of V is a gradient flow with rates 1,
//   decay eta_l gamma_l, and, with a the product of all sqrt(eta_l), W* / a and c a^2 in place of W* and c.
#pragma once
#include "engine.h"
#include "stepping.h"

namespace deeplinear {

inline const volatile int NEVER = 0;  // the `stop` of whoever cannot be stopped

// How networks are handed in and out.
struct Door {
    Layout layout;
    bool flipped;
    const double *units;  // [l] sqrt(eta), l as the caller counts

    // f(entry, its place among all as the caller counts, its layer as the caller counts, its place in that layer)
    template <class F> void for_each(double *network, F f) const {
        size_t outside = 0;
        for (int l = 0; l < layout.depth; l++) {
            const Matrix inside = layout.layer(network, flipped ? layout.depth - 1 - l : l);
            const int rows = flipped ? inside.columns : inside.rows, columns = flipped ? inside.rows : inside.columns;
            size_t within = 0;
            for (int i = 0; i < rows; i++)
                for (int j = 0; j < columns; j++)
                    f(flipped ? inside.row(j)[i] : inside.row(i)[j], outside++, l, within++);
        }
    }

    // False where a number is not finite, be it in these units.
    bool take(double *network, const double *given) const {
        bool finite = true;
        for_each(network, [&](double &entry, size_t i, int l, size_t) {
            entry = given[i] / units[l];
            finite &= is_finite(entry);
        });
        return finite;
    }
    void give(const double *network, double *out) const {
        for_each(const_cast<double *>(network),
                 [&](double &entry, size_t i, int l, size_t) { out[i] = entry * units[l]; });
    }
};

// Why something cannot be integrated, one of engine.h's refusals.
int32_t refusal_of(const deeplinear_problem &given);
int32_t refusal_of(const deeplinear_settings &given);
int32_t refusal_of(const double *numbers, size_t count);

// The number of weights, or 0 where sizes make no sense.
int64_t weights_of(const deeplinear_problem &given);

// Numbers that its products need room for, beside its matrices.
size_t room_to_pack(const deeplinear_problem &given);

// The problem in the engine's layout and units, and the door to it; a refusal where there is not enough memory, or
// where the units are beyond float64.
int32_t prepare(const deeplinear_problem &given, Arena &arena, Problem &problem, Door &door);

// A hash of everything that decides how a run goes on.
uint64_t hash_of(const deeplinear_problem &problem, const deeplinear_settings &settings);

// M = the matrix given in rows without gaps, or its transpose; times `factor`.
void fill(const Matrix &M, const double *given, bool flipped, double factor);

}  // namespace deeplinear
