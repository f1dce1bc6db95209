// What one call hands over: the C interface of this library.
//
// Everything is plain data, so that any language can fill it; Python's side is regard_native/__init__.py, which checks
// `size` against its own idea of the structure. Pointers may be null where a comment says so. Strides count elements.
#pragma once
#include <cstdint>

namespace regard {

enum Dtype : int64_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

// Statistics of query rows, in the order of `Call::statistics`.
enum Statistic : int64_t {
    kEntropy,
    kCollision,
    kMaxWeight,
    kMaxScore,
    kMinScore,
    kScoreSpread,
    kFirstMass,
    kSelfMass,
    kPreviousMass,
    kDistance,
    kExpectedPosition,
    kMass,
    kContribution,
    kFirstContribution,
    kNumStatistics
};

// (batch, heads, len, width); the last axis is contiguous. Null where the call has no such tensor.
struct Tensor {
    void* data;
    int64_t dtype;
    int64_t batch, head, row;  // strides
};

// A mask (bool, as bytes) or a bias (a Dtype) over (batch, heads, q_len, kv_len); stride 0 where an axis is shared.
struct Side {
    const void* data;
    int64_t dtype;
    int64_t batch, head, row, key;  // strides
};

struct Call {
    int64_t size;  // of this structure, to refuse a caller that was built for another one
    int64_t batch, heads, kv_heads, q_len, kv_len, head_dim, value_dim;
    int64_t threads;
    double scale;    // of the dot products
    double softcap;  // 0 for none

    // A query at position p sees the keys p - window_left to p + window_right; -1 for no limit. Causal is
    // window_right = 0. Positions are i + kv_len - q_len, or given: int64 over (batch, row).
    int64_t window_left, window_right;
    const int64_t* positions;  // or null
    int64_t position_batch, position_row;

    // Packed sequences: num_sequences + 1 offsets into one sequence of q_len queries and kv_len keys; null for none.
    int64_t num_sequences;
    const int64_t* q_offsets;
    const int64_t* kv_offsets;

    Side mask;            // True = may attend; or null
    Side bias;            // added to the scores; or null
    const float* slopes;  // (heads): adds -slope · |position - key|; or null

    // A weight is dropped where its random 32-bit number lies below `drop_below`; others are multiplied by `drop_scale`.
    uint64_t seed;
    uint64_t drop_below;
    double drop_scale;

    Tensor query, key;
    Tensor value;   // null: statistics alone
    Tensor output;  // null with value
    float* lse;     // (batch, heads, q_len): written by forward, read by backward and columns

    float* statistics[kNumStatistics];  // each (batch, heads, q_len), or null
    const float* key_weights;           // (batch, kv_len), for kMass
    const float* value_norms;           // (batch, kv_heads, kv_len), for kContribution and kFirstContribution

    // Backward.
    Tensor grad_output;
    const float* grad_lse;  // or null
    Tensor grad_query, grad_key, grad_value;

    // Columns: the weight that each key receives, Σ_i row_weight_i · p_ij.
    const float* row_weights;  // (batch, q_len), or null for 1
    float* received;           // (batch, heads, kv_len)
};

// output = input · weightᵀ + bias, for few rows of the input; all of one type, float32 or bfloat16.
struct LinearCall {
    int64_t size;  // of this structure
    int64_t rows, in_features, out_features;
    int64_t dtype;
    int64_t threads;
    const void* input;  // (rows, in_features), the last axis contiguous, as of the weight
    int64_t input_row;  // strides
    const void* weight;  // (out_features, in_features)
    int64_t weight_row;
    const void* bias;  // (out_features), or null
    void* output;      // (rows, out_features), contiguous
};

}  // namespace regard
