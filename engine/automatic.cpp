// Changes between the stabilised explicit and the linearly implicit method, both ways, by what a unit of time costs.
#include "methods.h"

namespace deeplinear {
namespace {

constexpr double LONG = 0.2;          // share of the limit of stability from which an explicit step is long (70 stages)
constexpr int64_t PATIENCE = 3;       // long explicit steps in a row before the implicit method is tried
constexpr int64_t TRIAL = 4;          // implicit steps before it is judged
constexpr double LIMIT_COST = 165;    // evaluations of an explicit step at the limit of stability
constexpr double PRODUCT_COST = 2;    // evaluations that a product with the derivative costs
constexpr int64_t LESS_PATIENT = 3;   // factor by which patience grows each time that it was not worth it
constexpr double MEMORY = 0.7;        // weight of the steps before: a single rejected step is no reason to leave
constexpr double MOST_SAVED = 3;      // that counts of a step, in its own cost: nothing that was saved counts for ever
constexpr int64_t ENDLESS = 1 << 30;  // patience that nobody has; it stops growing there

}  // namespace

Choice first_choice() { return {false, 0, PATIENCE, 0, 0}; }

Choice next_choice(const Choice &choice, bool accepted, double h, double limit, int64_t spent) {
    const bool is_long = accepted && h > LONG * limit;
    const int64_t streak = choice.implicit || is_long ? choice.streak + 1 : 0;
    if (!choice.implicit) {
        const bool tried = streak >= choice.patience;
        return {tried, tried ? 0 : streak, choice.patience, 0, 0};
    }
    const double cost = PRODUCT_COST * double(spent);
    const double saved = MEMORY * choice.saved + lesser(accepted ? LIMIT_COST * h / limit : 0.0, MOST_SAVED * cost);
    const double paid = MEMORY * choice.spent + cost;
    if (streak < TRIAL) return {true, streak, choice.patience, paid, saved};
    if (!(paid > saved)) return {true, streak, PATIENCE, paid, saved};
    // a method that served and has to go, because a transition came, was no mistake
    const int64_t patience = streak == TRIAL ? choice.patience * LESS_PATIENT : choice.patience;
    return {false, 0, patience < ENDLESS ? patience : ENDLESS, 0, 0};
}

}  // namespace deeplinear
