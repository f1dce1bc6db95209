// The linear layer for few rows, as in decoding: the weight is read once, at the speed of the memory.
//
// The weight streams by in stripes of kStripe rows, each of which is multiplied with kInputRows rows of the input at a
// time; for more rows it comes from the cache again. Sums are float32, whatever the weight is.
#pragma once
#include <omp.h>

#include "arena.h"
#include "pack.h"

namespace regard::REGARD_ISA {

#if defined(__AVX512F__)
constexpr int kStripe = 4;  // with four rows of the input 16 accumulators of 32 registers
#else
constexpr int kStripe = 2;
#endif
constexpr int kInputRows = 4;
constexpr int64_t kTaskBytes = 1 << 16;  // of the weight that a thread takes at a time

// How numbers of one type are stored and multiplied: kStep of a row of the weight at a time with a row of the input as
// `prepare` leaves it, which fills whole steps with 0.

struct FloatRows {
    typedef float Stored;
    typedef float Input;
    static constexpr int64_t kStep = kWidth;

    static void prepare(const float* from, int64_t count, int64_t padded, float* to) {
        read_row(Floats{}, from, kFloat32, count, padded, to);
    }
    REGARD_INLINE void step(Vec* sums, int rows, const float* weight, const float* input, int64_t stride) {
        const Vec held = load(weight);
        for (int row = 0; row < rows; ++row) sums[row] += held * load(input + row * stride);
    }
};

#if defined(REGARD_PAIRS)
struct PairRows {
    typedef uint16_t Stored;
    typedef uint16_t Input;
    static constexpr int64_t kStep = 2 * kWidth;

    static void prepare(const uint16_t* from, int64_t count, int64_t padded, uint16_t* to) {
        read_row(Pairs{}, from, kBFloat16, count, padded / 2, reinterpret_cast<uint32_t*>(to));
    }
    REGARD_INLINE void step(Vec* sums, int rows, const uint16_t* weight, const uint16_t* input, int64_t stride) {
        const auto pairs = [](const uint16_t* at) { return reinterpret_cast<const uint32_t*>(at); };
        for (int row = 0; row < rows; ++row)
            sums[row] = Pairs::multiply_add(sums[row], pairs(weight), pairs(input + row * stride));
    }
};
typedef PairRows BFloat16Rows;
#else
// Pairs of bfloat16 become two vectors of floats by a shift and a mask; the input lies in that order already.
struct BFloat16Rows {
    typedef uint16_t Stored;
    typedef float Input;
    static constexpr int64_t kStep = 2 * kWidth;

    static void prepare(const uint16_t* from, int64_t count, int64_t padded, float* to) {
        for (int64_t at = 0; at < padded; ++at) {
            const int64_t within = at % kStep, first = at - within;
            const int64_t place = first + within / 2 + within % 2 * kWidth;
            to[place] = at < count ? from_bfloat16(from[at]) : 0.0f;
        }
    }
    REGARD_INLINE void step(Vec* sums, int rows, const uint16_t* weight, const float* input, int64_t stride) {
        const Bits held = load_bits(weight);
        const Vec even = (Vec)(held << 16), odd = (Vec)(held & 0xffff0000u);
        for (int row = 0; row < rows; ++row) {
            sums[row] += even * load(input + row * stride);
            sums[row] += odd * load(input + row * stride + kWidth);
        }
    }
};
#endif

template <class Kind>
struct Linear {
    typedef typename Kind::Stored Stored;
    typedef typename Kind::Input Input;

    const LinearCall& call;
    const int64_t padded, whole;

    explicit Linear(const LinearCall& from)
        : call(from),
          padded(rounded_up(from.in_features, Kind::kStep)),
          whole(from.in_features / Kind::kStep * Kind::kStep) {}

    void run() const {
        const int64_t stripes = blocks_of(call.out_features, kStripe);
        const int64_t stripe_bytes = kStripe * call.in_features * static_cast<int64_t>(sizeof(Stored));
        const int64_t task = most(1, kTaskBytes / most(1, stripe_bytes)), tasks = blocks_of(stripes, task);
#pragma omp parallel num_threads(static_cast<int>(least(call.threads, tasks)))
        {
            Arena arena(Arena::bytes_of<Input>(call.rows * padded));
            Input* const inputs = arena.take<Input>(call.rows * padded);
            for (int64_t row = 0; row < call.rows; ++row)
                Kind::prepare(static_cast<const Stored*>(call.input) + row * call.input_row, call.in_features, padded,
                              inputs + row * padded);
#pragma omp for schedule(dynamic, 1)
            for (int64_t at = 0; at < tasks; ++at) {
                const int64_t end = least(call.out_features, (at + 1) * task * kStripe);
                int64_t feature = at * task * kStripe;
                for (; feature + kStripe <= end; feature += kStripe) all_rows<kStripe>(feature, inputs);
                for (; feature < end; ++feature) all_rows<1>(feature, inputs);
            }
        }
    }

    template <int Features>
    void all_rows(int64_t feature, const Input* inputs) const {
        int64_t row = 0;
        for (; row + kInputRows <= call.rows; row += kInputRows) some_rows<Features, kInputRows>(feature, row, inputs);
        switch (call.rows - row) {
            case 3: return some_rows<Features, 3>(feature, row, inputs);
            case 2: return some_rows<Features, 2>(feature, row, inputs);
            case 1: return some_rows<Features, 1>(feature, row, inputs);
        }
    }

    template <int Features, int Rows>
    void some_rows(int64_t feature, int64_t row, const Input* inputs) const {
        const Stored* const weight = static_cast<const Stored*>(call.weight) + feature * call.weight_row;
        const Input* const input = inputs + row * padded;
        Vec sums[Features][Rows] = {};
        for (int64_t at = 0; at < whole; at += Kind::kStep)
#pragma GCC unroll 4
            for (int own = 0; own < Features; ++own) {
                const Stored* const here = weight + own * call.weight_row + at;
                __builtin_prefetch(here + Features * call.weight_row, 0, 2);  // what the next stripe reads here
                Kind::step(sums[own], Rows, here, input + at, padded);
            }
        if (whole < call.in_features) {
            Stored last[Kind::kStep];
            for (int own = 0; own < Features; ++own) {
                for (int64_t at = 0; at < Kind::kStep; ++at)
                    last[at] = whole + at < call.in_features ? weight[own * call.weight_row + whole + at] : Stored{};
                Kind::step(sums[own], Rows, last, input + whole, padded);
            }
        }
        for (int own = 0; own < Features; ++own)
            for (int at = 0; at < Rows; ++at) write(row + at, feature + own, sum(sums[own][at]));
    }

    void write(int64_t row, int64_t feature, float found) const {
        if (call.bias) {
            float bias;
            read_floats(row_of(call.bias, call.dtype, feature), call.dtype, 1, &bias);
            found += bias;
        }
        const int64_t place = row * call.out_features + feature;
        write_floats(&found, call.dtype, 1, const_cast<char*>(row_of(call.output, call.dtype, place)));
    }
};

static void run_linear(const LinearCall& call) {
    if (call.dtype == kBFloat16) return Linear<BFloat16Rows>(call).run();
    Linear<FloatRows>(call).run();
}

}  // namespace regard::REGARD_ISA
