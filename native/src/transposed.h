// Weights of a block of keys (rows) and queries (columns): the order in which gradients and sums over queries want them.
//
// All queries of one head are packed once, then key blocks are walked one after the other. The log-sum-exp of each row
// is known, so a weight is 2^(score - lse) at once.
#pragma once
#include "arena.h"
#include "sequence.h"

namespace regard::REGARD_ISA {

constexpr int64_t kBlockKeys = kBlockRows;  // an even number
constexpr int64_t kBlockQueries = 64;       // a multiple of kPanel
static_assert(kBlockQueries % kPanel == 0 && kBlockKeys % 2 == 0, "blocks hold whole panels and pairs");

// Keys that hide a score are told by its weight, which is 0. `Weights` holds one block, kBlockQueries a row.
template <class Arithmetic>
class Weights {
  public:
    typedef typename Arithmetic::Element Element;

    Weights(const Call& call, Arena& arena, int64_t q_len)
        : call_(call),
          depth_(blocks_of(call.head_dim, Arithmetic::kPerElement)),
          extras_(has_extras(call)),
          queries_(arena.take<Element>(rounded_up(q_len, kBlockQueries) * depth_)),
          scratch_(arena.take<Element>(kPanel * depth_)),
          keys_(arena.take<Element>(kBlockKeys * depth_)),
          lse_(arena.take<float>(rounded_up(q_len, kBlockQueries))) {}

    static int64_t bytes(const Call& call, int64_t q_len) {
        const int64_t depth = blocks_of(call.head_dim, Arithmetic::kPerElement), padded = rounded_up(q_len, kBlockQueries);
        return Arena::bytes_of<Element>(padded * depth) + Arena::bytes_of<Element>(kPanel * depth) +
               Arena::bytes_of<Element>(kBlockKeys * depth) + Arena::bytes_of<float>(padded);
    }

    void begin_head(const Sequence& sequence, int64_t head) {
        head_ = head;
        const int64_t padded = rounded_up(sequence.q_len, kBlockQueries);
        pack_transposed<Arithmetic>(sequence.queries(call_.query, head, call_.head_dim), 0, padded, depth_, scratch_,
                                    queries_);
        for (int64_t row = 0; row < padded; ++row) {
            // A row without keys, or beyond the last, gets the weight 2^-inf everywhere.
            const float lse = row < sequence.q_len ? call_.lse[sequence.at_query(head, row)] * kLog2E : kInfinity;
            lse_[row] = lse == -kInfinity ? kInfinity : lse;
        }
    }

    void begin_keys(const Sequence& sequence, int64_t kv_head, int64_t first, int64_t count) {
        first_ = first;
        count_ = count;
        read_rows<Arithmetic>(sequence.keys(call_.key, kv_head, call_.head_dim), first, count, depth_, keys_);
    }

    // The queries that may see one of the keys, as far as causality and window say: first and one past the last.
    int64_t first_query(const Sequence& sequence) const {
        return first_seeing(sequence, first_) / kBlockQueries * kBlockQueries;
    }
    int64_t end_query(const Sequence& sequence) const { return end_seeing(sequence, first_ + count_ - 1); }

    // Whether some of the queries from `query` on may see one of the keys, as far as the mask says, and the bias.
    bool sees(const Sequence& sequence, int64_t query) const {
        if (!sequence.bias_opens(head_, first_, count_)) return false;
        if (!call_.mask.data) return true;
        const int64_t queries = call_.mask.row == 0 ? 1 : least(kBlockQueries, sequence.q_len - query);
        const int64_t keys = call_.mask.key == 0 ? 1 : count_;
        for (int64_t row = 0; row < queries; ++row) {
            const uint8_t* mask = sequence.mask(head_, query + row, first_);
            for (int64_t key = 0; key < keys; ++key)
                if (mask[key * call_.mask.key]) return true;
        }
        return false;
    }

    // Write the weights of the queries from `query` on, and the softcap's derivative where there is one.
    void compute(const Sequence& sequence, int64_t query, float* to, float* derivatives) const {
        product<Arithmetic>(keys_, depth_, 1, queries_ + query * depth_, kPanel, depth_ * kPanel, count_, kBlockQueries,
                            depth_, to, kBlockQueries, false);
        const int64_t present = least(kBlockQueries, sequence.q_len - query);
        const float factor = static_cast<float>(call_.scale) * kLog2E;
        for (int64_t key = 0; key < count_; ++key) {
            float* const row = to + key * kBlockQueries;
            if (extras_)
                shape(sequence, query, present, first_ + key, row, derivatives + key * kBlockQueries);
            else
                for (int64_t at = 0; at < kBlockQueries; at += kWidth) store(row + at, load(row + at) * factor);
            hide(row, first_seeing(sequence, first_ + key) - query, end_seeing(sequence, first_ + key) - query);
            // A weight is at most 1, whatever rounding makes of scores of a billion.
            for (int64_t at = 0; at < kBlockQueries; at += kWidth)
                store(row + at, exp2(smaller(Vec{}, load(row + at) - load(lse_ + query + at))));
        }
    }

  private:
    int64_t first_seeing(const Sequence& sequence, int64_t key) const {
        if (call_.window_right < 0) return 0;
        return least(most(key - call_.window_right - (sequence.kv_len - sequence.q_len), 0), sequence.q_len);
    }
    int64_t end_seeing(const Sequence& sequence, int64_t key) const {
        if (call_.window_left < 0) return sequence.q_len;
        return most(least(key + call_.window_left + 1 - (sequence.kv_len - sequence.q_len), sequence.q_len), 0);
    }

    void shape(const Sequence& sequence, int64_t query, int64_t present, int64_t key, float* row,
               float* derivatives) const {
        const Line line(sequence, head_, query, key, false);
        Vec distance = lanes() + static_cast<float>(query + sequence.kv_len - sequence.q_len - key);
        for (int64_t at = 0; at < kBlockQueries; at += kWidth, distance += static_cast<float>(kWidth)) {
            // What lies beyond the last query has no mask or bias to be read, and the weight 0 by its lse.
            if (at >= present) {
                store(row + at, Vec{});
                store(derivatives + at, Vec{});
                continue;
            }
            Vec derivative = all(1.0f);
            store(row + at, Line::shaped(line, load(row + at), at, present - at, absolute(distance), &derivative));
            store(derivatives + at, derivative);
        }
    }

    static void hide(float* row, int64_t from, int64_t to) {
        if (from <= 0 && to >= kBlockQueries) return;
        for (int64_t at = 0; at < kBlockQueries; at += kWidth) {
            const Ints index = int_lanes() + static_cast<int32_t>(at);
            const Ints seen = (index >= static_cast<int32_t>(most(from, 0))) &
                              (index < static_cast<int32_t>(least(most(to, 0), kBlockQueries)));
            store(row + at, either(seen, load(row + at), all(-kInfinity)));
        }
    }

    const Call& call_;
    const int64_t depth_;
    const bool extras_;
    Element* const queries_;
    Element* const scratch_;
    Element* const keys_;
    float* const lse_;
    int64_t head_ = 0, first_ = 0, count_ = 0;
};

// How the key blocks of few heads are shared out among threads: every `splits`-th block is one's own, so that causal
// ones are balanced, and the same whatever thread is first.
struct Splits {
    int64_t units, splits, most_keys = 0, most_queries = 0;

    explicit Splits(const Call& call) : units(num_sequences(call) * call.kv_heads) {
        for (int64_t number = 0; number < num_sequences(call); ++number) {
            const Sequence sequence(call, number);
            most_keys = most(most_keys, sequence.kv_len);
            most_queries = most(most_queries, sequence.q_len);
        }
        const int64_t wanted = units >= 2 * call.threads ? 1 : blocks_of(call.threads, most(units, 1));
        splits = most(1, least(wanted, blocks_of(most_keys, kBlockKeys)));
    }

    int64_t own_blocks(int64_t keys, int64_t split) const {
        return blocks_of(most(blocks_of(keys, kBlockKeys) - split, 0), splits);
    }
};

}  // namespace regard::REGARD_ISA
