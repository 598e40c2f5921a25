// Adaptive integration in bounded segments, whatever the method.
#pragma once
#include "methods.h"

namespace deeplinear {

struct Settings {
    Method method;
    Tolerances tolerances;  // of one step
    const double *times;    // null: outputs are chosen
    int64_t count;
    double max_time, goal, spread;
    int64_t outputs, log;
};

// Where an integration stands; all that is remembered from step to step.
struct Progress {
    double t;
    double *network, *slope;
    double h;             // step to try next
    bool grows;           // whether the next step may be longer: not right after a rejected one
    double last_h;        // of the last accepted step ...
    double last_error;    // ... and its error
    Spectrum spectrum;
    Choice choice;
    Matrix recorded;      // end-to-end matrix at the last output
    double recorded_t;
    double speed;         // of the end-to-end matrix in the last accepted step
    double time_unit;     // the first step
    double noise;         // rounding error of the gradient with respect to the end-to-end matrix
    int64_t steps, rejected, evaluations;
    int64_t reached;      // outputs so far
    int status;           // one of engine.h's
    bool begun;           // whether slope, h and what follows from them are there
};

struct Integration {
    Problem problem;
    Settings settings;
    Progress now;
    Workspace work;
    Start trial;                   // where trial steps go
    double *trial_vector;          // and the power iteration's vector after them
    Matrix W, W_before;            // end-to-end matrices of a step
    double matrix_size;            // |W*|
    double *times, *outputs;       // of the segment, outputs laid out as networks
    double *log;
    int64_t recorded_outputs, logged;

    static Integration of(const Problem &problem, const Settings &settings, Arena &arena);
    void advance(int64_t steps, double seconds);

  private:
    bool begin();
    bool try_step();
    void record();
    bool look(bool accepted, double lasted, double longest_t, double longest_W);
    double length(double longest_t, double longest_W, double target, bool &on_target) const;
    double next_length(double h, double error, bool accepted);
    void write_log(double t, double h, const Trial &trial, bool accepted);
};

}  // namespace deeplinear
