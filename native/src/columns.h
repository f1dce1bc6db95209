// Columns: the weight that each key receives from all queries.
#pragma once
#include <omp.h>

#include "transposed.h"

namespace regard::REGARD_ISA {

template <class Arithmetic>
struct Columns {
    const Call& call;
    const Splits plan;

    explicit Columns(const Call& from) : call(from), plan(from) {}

    void run() const {
        if (plan.most_keys == 0) return;
#pragma omp parallel num_threads(static_cast<int>(call.threads))
        {
            const int64_t padded = rounded_up(plan.most_queries, kBlockQueries);
            Arena arena(Weights<Arithmetic>::bytes(call, plan.most_queries) + Arena::bytes_of<float>(padded) +
                        2 * Arena::bytes_of<float>(kBlockKeys * kBlockQueries));
            Weights<Arithmetic> weights(call, arena, plan.most_queries);
            const MatrixUnits<Arithmetic> held;
            float* const factors = arena.take<float>(padded);
            float* const block = arena.take<float>(kBlockKeys * kBlockQueries);
            float* const derivatives = arena.take<float>(kBlockKeys * kBlockQueries);
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < plan.units * plan.splits; ++task) {
                const int64_t unit = task / plan.splits, split = task % plan.splits;
                const Sequence sequence(call, unit / call.kv_heads);
                const int64_t kv_head = unit % call.kv_heads;
                for (int64_t row = 0; row < padded; ++row) {
                    const float* const given = call.row_weights;
                    factors[row] = row >= sequence.q_len ? 0.0f
                                   : given               ? given[sequence.batch * call.q_len + sequence.q_begin + row]
                                                         : 1.0f;
                }
                for (int64_t member = 0; member < sequence.group(); ++member) {
                    const int64_t head = kv_head * sequence.group() + member;
                    float* const received =
                        call.received + (sequence.batch * call.heads + head) * call.kv_len + sequence.kv_begin;
                    weights.begin_head(sequence, head);
                    for (int64_t at = 0; at < plan.own_blocks(sequence.kv_len, split); ++at) {
                        const int64_t first = (at * plan.splits + split) * kBlockKeys;
                        const int64_t count = least(kBlockKeys, sequence.kv_len - first);
                        weights.begin_keys(sequence, kv_head, first, count);
                        for (int64_t key = 0; key < count; ++key) received[first + key] = 0.0f;
                        const int64_t end = weights.end_query(sequence);
                        for (int64_t query = weights.first_query(sequence); query < end; query += kBlockQueries) {
                            if (!weights.sees(sequence, query)) continue;
                            weights.compute(sequence, query, block, derivatives);
                            for (int64_t key = 0; key < count; ++key) {
                                Vec total{};
                                for (int64_t lane = 0; lane < kBlockQueries; lane += kWidth)
                                    total += load(block + key * kBlockQueries + lane) * load(factors + query + lane);
                                received[first + key] += sum(total);
                            }
                        }
                    }
                }
            }
        }
    }
};

}  // namespace regard::REGARD_ISA
