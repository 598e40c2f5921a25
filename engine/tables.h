// Coefficients of ROCK4, CND4 and Dormand-Prince 8(5,3); tables.cpp is written by tools/generate_engine_tables.py.
#pragma once

namespace deeplinear {
namespace rock4 {
constexpr int MEMBERS = 60;
extern const int stages[MEMBERS], offset[MEMBERS + 1];
extern const double interval[MEMBERS], finish[MEMBERS][10], error[MEMBERS][5], mu[], ka[];
}  // namespace rock4

namespace cnd4 {
constexpr int MEMBERS = 59;
extern const int stages[MEMBERS], offset[MEMBERS + 1], place[MEMBERS][2];
extern const double interval[MEMBERS], repair[MEMBERS][5], beta[], eps[];
}  // namespace cnd4

namespace dopri8 {
constexpr int STAGES = 12;
extern const double A[STAGES][STAGES], B[STAGES], E3[STAGES + 1], E5[STAGES + 1];
}  // namespace dopri8
}  // namespace deeplinear
