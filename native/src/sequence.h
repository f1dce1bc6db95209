// Where one sequence of the batch lies in the tensors, and what its queries may see.
#pragma once
#include "pack.h"

namespace regard::REGARD_ISA {

// Every sequence of a batch, or every packed sequence.
static inline int64_t num_sequences(const Call& call) { return call.q_offsets ? call.num_sequences : call.batch; }

// One sequence: `batch` is its index in the tensors, from whose row `q_begin` its queries and from `kv_begin` its keys lie.
struct Sequence {
    const Call& call;
    int64_t number, batch, q_begin, q_len, kv_begin, kv_len;

    Sequence(const Call& from, int64_t index) : call(from), number(index) {
        const bool packed = call.q_offsets != nullptr;
        batch = packed ? 0 : number;
        q_begin = packed ? call.q_offsets[number] : 0;
        q_len = packed ? call.q_offsets[number + 1] - q_begin : call.q_len;
        kv_begin = packed ? call.kv_offsets[number] : 0;
        kv_len = packed ? call.kv_offsets[number + 1] - kv_begin : call.kv_len;
    }

    int64_t group() const { return call.heads / call.kv_heads; }
    int64_t num_rows() const { return q_len * group(); }  // that share a key head

    Rows rows(const Tensor& tensor, int64_t head, int64_t begin, int64_t count, int64_t width) const {
        const int64_t first = batch * tensor.batch + head * tensor.head + begin * tensor.row;
        return {row_of(tensor.data, tensor.dtype, first), tensor.dtype, tensor.row, count, width};
    }
    Rows queries(const Tensor& tensor, int64_t head, int64_t width) const {
        return rows(tensor, head, q_begin, q_len, width);
    }
    Rows keys(const Tensor& tensor, int64_t head, int64_t width) const {
        return rows(tensor, head, kv_begin, kv_len, width);
    }

    // Where what belongs to a query lies in an array (batch, heads, q_len).
    int64_t at_query(int64_t head, int64_t row) const {
        return (batch * call.heads + head) * call.q_len + q_begin + row;
    }

    int64_t position(int64_t row) const {
        if (call.positions) return call.positions[batch * call.position_batch + row * call.position_row];
        return row + kv_len - q_len;
    }

    // The keys that a query at `position` may see, as far as causality and window say: first and one past the last.
    int64_t first_key(int64_t position) const {
        return call.window_left < 0 ? 0 : least(most(position - call.window_left, 0), kv_len);
    }
    int64_t end_key(int64_t position) const {
        return call.window_right < 0 ? kv_len : most(least(position + call.window_right + 1, kv_len), 0);
    }

    const uint8_t* mask(int64_t head, int64_t row, int64_t key) const {
        const Side& side = call.mask;
        return static_cast<const uint8_t*>(side.data) + batch * side.batch + head * side.head + row * side.row +
               key * side.key;
    }
    const char* bias(int64_t head, int64_t row, int64_t key) const {
        const Side& side = call.bias;
        return row_of(side.data, side.dtype, batch * side.batch + head * side.head + row * side.row + key * side.key);
    }
};

// Whether scores are more than scaled products that a window may hide: then each is turned into its final value first.
static inline bool has_extras(const Call& call) {
    return call.mask.data || call.bias.data || call.slopes || call.softcap != 0.0;
}

// What shapes the scores along one line of keys (or of queries): mask and bias with the stride along that line.
struct Line {
    const uint8_t* mask;  // or null
    const char* bias;     // or null
    int64_t mask_stride, bias_stride, bias_dtype;
    float scale;  // of the products; with log2(e) unless there is a softcap
    float softcap;
    float slope;

    Line(const Sequence& sequence, int64_t head, int64_t row, int64_t key, bool along_keys) {
        const Call& call = sequence.call;
        mask = call.mask.data ? sequence.mask(head, row, key) : nullptr;
        bias = call.bias.data ? sequence.bias(head, row, key) : nullptr;
        mask_stride = along_keys ? call.mask.key : call.mask.row;
        bias_stride = along_keys ? call.bias.key : call.bias.row;
        bias_dtype = call.bias.dtype;
        softcap = static_cast<float>(call.softcap) * kLog2E;
        scale = static_cast<float>(call.softcap != 0.0 ? call.scale / call.softcap : call.scale * 1.4426950408889634);
        slope = call.slopes ? call.slopes[head] * kLog2E : 0.0f;
    }

    // Scores in base 2 of kWidth products at place `at` of the line, of whose entries `count` exist: hidden ones become
    // -inf, those that do not exist anything. `distance` is |position - key|; `derivative`, that of the softcap.
    REGARD_INLINE Vec shaped(const Line& line, Vec products, int64_t at, int64_t count, Vec distance,
                             Vec* derivative = nullptr) {
        Vec score = products * line.scale;
        if (line.softcap != 0.0f) {
            score = tanh(score);
            if (derivative) *derivative = 1.0f - score * score;
            score *= line.softcap;
        }
        if (line.bias) score += kLog2E * line.biases(at, count);
        if (line.slope != 0.0f) score -= line.slope * distance;
        return line.mask ? either(line.seen(at, count), score, all(-kInfinity)) : score;
    }

  private:
    Ints seen(int64_t at, int64_t count) const {
        const uint8_t* from = mask + at * mask_stride;
        if (mask_stride == 0) return Ints{} - (from[0] != 0);
        uint8_t bytes[kWidth] = {};
        if (mask_stride == 1 && count >= kWidth) {
            __builtin_memcpy(bytes, from, kWidth);
        } else {
            for (int64_t lane = 0; lane < least(count, kWidth); ++lane) bytes[lane] = from[lane * mask_stride];
        }
        typedef uint8_t Bytes __attribute__((vector_size(kWidth)));
        Bytes packed;
        __builtin_memcpy(&packed, bytes, kWidth);
        return __builtin_convertvector(packed, Ints) != 0;
    }

    Vec biases(int64_t at, int64_t count) const {
        const int64_t bytes = bias_dtype == kFloat32 ? 4 : 2;
        const char* from = bias + at * bias_stride * bytes;
        if (bias_stride == 0) return all(read_float(from));
        if (bias_stride == 1 && count >= kWidth) return load_as_floats(from, bias_dtype);
        float values[kWidth] = {};
        const int64_t present = least(count, kWidth);
        if (bias_stride == 1) {
            read_floats(from, bias_dtype, present, values);
        } else {
            for (int64_t lane = 0; lane < present; ++lane) values[lane] = read_float(from + lane * bias_stride * bytes);
        }
        return load(values);
    }

    float read_float(const char* from) const {
        float found;
        read_floats(from, bias_dtype, 1, &found);
        return found;
    }
};

}  // namespace regard::REGARD_ISA
