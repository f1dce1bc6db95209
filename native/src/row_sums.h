// What one pass over the keys sums up for each query row, and the statistics that follow from it.
//
// With s the score in base 2 and m the largest so far, e = 2^(s - m): the sums are of e times something, and move to a
// larger m by the factor 2^(m_old - m_new), as in online softmax (Milakov and Gimelshein, arXiv:1805.02867).
#pragma once
#include "sequence.h"

namespace regard::REGARD_ISA {

// Which sums are wanted beyond Σe: what a statistic needs.
struct Wanted {
    bool sums = false;      // Σe·(s - m), Σe²
    bool position = false;  // Σe·j, Σe·|p - j|
    bool keys = false;      // Σe·weight_j, Σe·norm_j
    bool scores = false;    // smallest, mean and spread of the scores themselves
    bool any = false;

    explicit Wanted(const Call& call) {
        float* const* at = call.statistics;
        sums = at[kEntropy] || at[kCollision];
        position = at[kDistance] || at[kExpectedPosition];
        keys = at[kMass] || at[kContribution] || at[kFirstContribution];
        scores = at[kMinScore] || at[kScoreSpread];
        for (int64_t index = 0; index < kNumStatistics; ++index) any = any || at[index];
    }
};

struct RowSums {
    Vec total, energy, square, position, distance, mass, contribution;  // a part in each lane
    Vec smallest;
    float shift;                  // m, -inf before any key was seen
    float first, self, previous;  // scores of named keys, -inf where they were not met
    float seen, mean, deviation;  // number of keys, mean of their scores, Σ(s - mean)²

    void clear() {
        total = energy = square = position = distance = mass = contribution = Vec{};
        smallest = all(kInfinity);
        shift = first = self = previous = -kInfinity;
        seen = mean = deviation = 0.0f;
    }

    // Move to the shift `to`, at least the present one, and return the factor of everything summed so far.
    float move(float to) {
        if (shift == to) return 1.0f;
        const float distance_moved = shift - to;
        const float factor = shift == -kInfinity ? 0.0f : exp2(distance_moved);
        if (factor != 0.0f) energy = (energy + distance_moved * total) * factor;
        else energy = Vec{};
        total *= factor;
        square *= factor * factor;
        position *= factor;
        distance *= factor;
        mass *= factor;
        contribution *= factor;
        shift = to;
        return factor;
    }

    // Join number, mean and squared deviation with those of other keys (Chan, Golub and LeVeque 1983).
    void join_spread(float other_seen, float other_mean, float other_deviation) {
        if (other_seen == 0.0f) return;
        const float all_seen = seen + other_seen, apart = other_mean - mean, share = other_seen / all_seen;
        deviation += other_deviation + apart * apart * seen * share;
        mean += apart * share;
        seen = all_seen;
    }

    // Add the sums over other keys and return the factors that the outputs of both get.
    void join(RowSums other, float* own_factor, float* other_factor) {
        const float to = shift > other.shift ? shift : other.shift;
        *own_factor = move(to);
        *other_factor = other.move(to);
        total += other.total;
        energy += other.energy;
        square += other.square;
        position += other.position;
        distance += other.distance;
        mass += other.mass;
        contribution += other.contribution;
        smallest = smaller(smallest, other.smallest);
        first = first > other.first ? first : other.first;
        self = self > other.self ? self : other.self;
        previous = previous > other.previous ? previous : other.previous;
        join_spread(other.seen, other.mean, other.deviation);
    }
};

REGARD_INLINE float smallest_of(Vec value) { return -largest(-value); }

// Write lse and the wanted statistics of a row; returns 1 / Σe, 0 for a row without keys.
static inline float finish_row(const Call& call, const RowSums& sums, int64_t at, float first_norm) {
    const float total = sum(sums.total);
    const bool empty = sums.shift == -kInfinity;
    const float inverse = empty ? 0.0f : 1.0f / total;
    const float log_total = empty ? 0.0f : log2(total);
    const float lse2 = sums.shift + log_total;
    if (call.lse) call.lse[at] = empty ? -kInfinity : lse2 * kLn2;
    const float nothing = __builtin_nanf("");
    for (int64_t name = 0; name < kNumStatistics; ++name) {
        float* const to = call.statistics[name];
        if (!to) continue;
        float found = nothing;
        if (!empty && total == total) {  // NaN among the scores is NaN in every statistic
            switch (name) {
                case kEntropy: {
                    const float entropy = (log_total - sum(sums.energy) * inverse) * kLn2;
                    found = entropy > 0.0f ? entropy : 0.0f;
                    break;
                }
                case kCollision: found = sum(sums.square) * inverse * inverse; break;
                case kMaxWeight: found = inverse; break;
                case kMaxScore: found = sums.shift * kLn2; break;
                case kMinScore: found = smallest_of(sums.smallest) * kLn2; break;
                case kScoreSpread: found = __builtin_sqrtf(sums.deviation / sums.seen) * kLn2; break;
                case kFirstMass: found = exp2(sums.first - lse2); break;
                case kSelfMass: found = exp2(sums.self - lse2); break;
                case kPreviousMass: found = exp2(sums.previous - lse2); break;
                case kDistance: found = sum(sums.distance) * inverse; break;
                case kExpectedPosition: found = sum(sums.position) * inverse; break;
                case kMass: found = sum(sums.mass) * inverse; break;
                case kContribution: found = sum(sums.contribution) * inverse; break;
                case kFirstContribution:
                    found = exp2(sums.first - sums.shift) * first_norm / sum(sums.contribution);
                    break;
                default: break;
            }
        }
        to[at] = found;
    }
    return inverse;
}

}  // namespace regard::REGARD_ISA
