// Methods of integration of order 4 and 8, and changes between them by cost.
#pragma once
#include "preconditioner.h"

namespace deeplinear {

enum class Method { ROCK4, RODAS4, DOPRI8, AUTO };

// What the control of step sizes has to know of a method.
struct Character {
    int order;          // the error estimate behaves like h^order
    double safety;      // share of the longest step that the estimate allows
    double calibration; // tolerance per step that gives a trajectory error of about rtol, relative to rtol
};
inline Character character_of(Method method) {
    return method == Method::DOPRI8 ? Character{8, 0.9, 0.4} : Character{4, 0.8, 0.25};
}

struct Tolerances {
    double rtol, atol;  // of every layer in one step
};

// What a trial step leaves: the network after it and its slope (in the buffers given), and these.
struct Trial {
    double error;       // in units of the tolerance; infinite where the step means nothing
    int64_t spent;      // evaluations and products
    int family;         // which formula was used: one of engine.h's log codes
};

// The spectral radius of the field's derivative, followed by power iteration on differences of the field.
struct Spectrum {
    double *vector;     // approximate eigenvector of the largest eigenvalue in modulus
    double radius;      // with a margin
    int64_t age;        // accepted steps since the last estimate
};

// Who takes the next step of AUTO, and what that rests on.
struct Choice {
    bool implicit;      // RODAS4, not ROCK4
    int64_t streak;     // long explicit steps in a row, or steps since the implicit method took over
    int64_t patience;   // long explicit steps before the implicit method is tried
    double spent;       // what the last implicit steps cost, in evaluations ...
    double saved;       // ... and what explicit ones would have cost
};

// What one method or the other needs to take a step; nothing in here is remembered from step to step.
struct Workspace {
    Chain chain, base, moved;  // of an evaluation; of the start of an implicit step and of products there
    Preconditioner inverse;
    static constexpr int MOST_VECTORS = 16;
    double *vectors[MOST_VECTORS];
    double *noise;  // a fixed pattern without structure, each layer of norm 1
    double *sizes;  // [l] tolerance of a layer

    static Workspace of(const Problem &problem, Method method, Arena &arena);
};

// Where a step starts.
struct Start {
    double *network, *slope;
};

// stabilised.cpp
int64_t begin_spectrum(const Problem &problem, Workspace &work, Start from, Spectrum &spectrum);
int64_t refresh_spectrum(const Problem &problem, Workspace &work, Start from, bool accepted, Spectrum &spectrum);
double longest_stable(const Spectrum &spectrum);
Trial stabilised_step(const Problem &problem, Workspace &work, Start from, double h, const Spectrum &spectrum,
                      Tolerances tolerances, Start to);

// rosenbrock.cpp and dopri8.cpp
Trial rosenbrock_step(
    const Problem &problem, Workspace &work, Start from, double h, Tolerances tolerances, Start to);
Trial dopri8_step(const Problem &problem, Workspace &work, Start from, double h, Tolerances tolerances, Start to);

// automatic.cpp
Choice first_choice();
Choice next_choice(const Choice &choice, bool accepted, double h, double limit, int64_t spent);

// sizes[l] = atol + rtol |W_l|
inline void sizes_of(const Layout &layout, const double *network, Tolerances tolerances, double *sizes) {
    for (int l = 0; l < layout.depth; l++) {
        const size_t start = layout.offset[l];
        sizes[l] = tolerances.atol + tolerances.rtol * norm(network + start, layout.offset[l + 1] - start);
    }
}

}  // namespace deeplinear
