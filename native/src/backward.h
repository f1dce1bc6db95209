// Backward: the gradients of query, key and value, from the log-sum-exp and the output that forward returned.
//
// With P the weights, Z what dropout multiplied them with, dO the gradient of the output and D_i = Σ O_i · dO_i - dlse_i:
//   dV = (P∘Z)ᵀ dO,  dS = P ∘ ((dO Vᵀ)∘Z - D),  dQ = scale · dS K,  dK = scale · dSᵀ Q
// (Dao et al., FlashAttention, arXiv:2205.14135, algorithm 4). Blocks have keys as rows and queries as columns, so that
// P and dS are first factors as they are. Each thread has keys of its own and adds to a dQ of its own; those are summed
// in the order of the splits, so the result is the same in every run.
#pragma once
#include <omp.h>

#include "transposed.h"

namespace regard::REGARD_ISA {

template <class Arithmetic>
class Backward {
  public:
    typedef typename Arithmetic::Element Element;

    explicit Backward(const Call& call)
        : call_(call),
          plan_(call),
          value_depth_(blocks_of(call.value_dim, Arithmetic::kPerElement)),
          key_columns_(rounded_up(call.head_dim, kWidth)),
          value_columns_(rounded_up(call.value_dim, kWidth)),
          padded_(rounded_up(plan_.most_queries, kBlockQueries)),
          group_(call.heads / call.kv_heads) {}

    void run() const {
        if (plan_.most_keys == 0 && plan_.most_queries == 0) return;
        // Where several threads work on one unit, each has gradients of its queries that are summed at the end.
        const int64_t part = padded_ * call_.head_dim, parts = plan_.splits > 1 ? plan_.units * plan_.splits * group_ : 0;
        Arena shared(Arena::bytes_of<float>(parts * part) + 64);
        float* const partial = shared.take<float>(parts * part);
#pragma omp parallel num_threads(static_cast<int>(call_.threads))
        {
            Arena arena(bytes());
            Thread thread(*this, arena);
            const MatrixUnits<Arithmetic> held;
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < plan_.units * plan_.splits; ++task)
                thread.run(task / plan_.splits, task % plan_.splits, partial + task * group_ * part * (parts > 0));
            if (parts > 0) {
#pragma omp for schedule(static)
                for (int64_t at = 0; at < plan_.units * group_; ++at) {
                    const int64_t unit = at / group_, member = at % group_;
                    float* const total = partial + (unit * plan_.splits * group_ + member) * part;
                    for (int64_t split = 1; split < plan_.splits; ++split) {
                        const float* const more = total + split * group_ * part;
                        for (int64_t number = 0; number < part; ++number) total[number] += more[number];
                    }
                    const Sequence sequence(call_, unit / call_.kv_heads);
                    thread.write_queries(sequence, unit % call_.kv_heads * group_ + member, total);
                }
            }
        }
    }

  private:
    int64_t elements(int64_t rows, int64_t columns) const {
        return blocks_of(rows, Arithmetic::kPerElement) * columns;
    }

    int64_t own_keys() const { return plan_.own_blocks(plan_.most_keys, 0) * kBlockKeys; }

    int64_t bytes() const {
        const int64_t block = Arena::bytes_of<float>(kBlockKeys * kBlockQueries);
        return Weights<Arithmetic>::bytes(call_, plan_.most_queries) +
               Arena::bytes_of<Element>(elements(padded_, key_columns_)) +
               Arena::bytes_of<Element>(padded_ * value_depth_) +
               Arena::bytes_of<Element>(elements(padded_, value_columns_)) +
               Arena::bytes_of<Element>(kPanel * value_depth_) + 3 * Arena::bytes_of<float>(padded_) +
               Arena::bytes_of<Element>(kBlockKeys * value_depth_) + Arena::bytes_of<Element>(kBlockKeys * key_columns_) +
               Arena::bytes_of<float>(2 * most(key_columns_, value_columns_)) +
               Arena::bytes_of<float>(padded_ * key_columns_) + Arena::bytes_of<float>(own_keys() * key_columns_) +
               Arena::bytes_of<float>(own_keys() * value_columns_) + 6 * block;
    }

    // What one thread holds.
    class Thread {
      public:
        Thread(const Backward& all, Arena& arena)
            : all_(all),
              call_(all.call_),
              weights_(call_, arena, all.plan_.most_queries),
              queries_(arena.take<Element>(all.elements(all.padded_, all.key_columns_))),
              grads_(arena.take<Element>(all.padded_ * all.value_depth_)),
              grads_summed_(arena.take<Element>(all.elements(all.padded_, all.value_columns_))),
              scratch_(arena.take<Element>(kPanel * all.value_depth_)),
              inner_(arena.take<float>(all.padded_)),
              first_numbers_(arena.take<uint32_t>(all.padded_)),
              second_numbers_(arena.take<uint32_t>(all.padded_)),
              values_(arena.take<Element>(kBlockKeys * all.value_depth_)),
              keys_(arena.take<Element>(kBlockKeys * all.key_columns_)),
              row_(arena.take<float>(2 * most(all.key_columns_, all.value_columns_))),
              grad_query_(arena.take<float>(all.padded_ * all.key_columns_)),
              grad_key_(arena.take<float>(all.own_keys() * all.key_columns_)),
              grad_value_(arena.take<float>(all.own_keys() * all.value_columns_)),
              p_(arena.take<float>(kBlockKeys * kBlockQueries)),
              derivatives_(arena.take<float>(kBlockKeys * kBlockQueries)),
              ds_(arena.take<float>(kBlockKeys * kBlockQueries)),
              p_elements_(arena.take<Element>(kBlockKeys * kBlockQueries)),
              ds_elements_(arena.take<Element>(kBlockKeys * kBlockQueries)),
              ds_summed_(arena.take<Element>(kBlockKeys * kBlockQueries)) {}

        void run(int64_t unit, int64_t split, float* partial) {
            const Sequence sequence(call_, unit / call_.kv_heads);
            const int64_t kv_head = unit % call_.kv_heads, blocks = all_.plan_.own_blocks(sequence.kv_len, split);
            clear(grad_key_, blocks * kBlockKeys * all_.key_columns_);
            clear(grad_value_, blocks * kBlockKeys * all_.value_columns_);
            for (int64_t member = 0; member < all_.group_; ++member) {
                const int64_t head = kv_head * all_.group_ + member;
                begin_head(sequence, head);
                for (int64_t at = 0; at < blocks; ++at)
                    add_keys(sequence, kv_head, (at * all_.plan_.splits + split) * kBlockKeys, at * kBlockKeys);
                float* const own = all_.plan_.splits > 1 ? partial + member * all_.padded_ * call_.head_dim : row_;
                gather_queries(sequence, head, own);
            }
            for (int64_t at = 0; at < blocks; ++at) {
                const int64_t first = (at * all_.plan_.splits + split) * kBlockKeys;
                for (int64_t key = 0; key < least(kBlockKeys, sequence.kv_len - first); ++key) {
                    const int64_t own = at * kBlockKeys + key;
                    write(sequence.keys(call_.grad_key, kv_head, call_.head_dim), first + key,
                          grad_key_ + own * all_.key_columns_, call_.scale);
                    write(sequence.keys(call_.grad_value, kv_head, call_.value_dim), first + key,
                          grad_value_ + own * all_.value_columns_, 1.0);
                }
            }
        }

        void write_queries(const Sequence& sequence, int64_t head, const float* rows) {
            const Rows to = sequence.queries(call_.grad_query, head, call_.head_dim);
            for (int64_t row = 0; row < sequence.q_len; ++row) {
                __builtin_memcpy(row_, rows + row * call_.head_dim, sizeof(float) * static_cast<size_t>(call_.head_dim));
                write(to, row, row_, call_.scale);
            }
        }

      private:
        static void clear(float* to, int64_t count) {
            for (int64_t at = 0; at < count; ++at) to[at] = 0.0f;
        }

        // Write a row, whose memory has room for whole vectors, times `factor`.
        static void write(const Rows& rows, int64_t index, float* from, double factor) {
            for (int64_t at = 0; at < rows.width; at += kWidth)
                store(from + at, load(from + at) * static_cast<float>(factor));
            write_floats(from, rows.dtype, rows.width, const_cast<char*>(rows.row(index)));
        }

        void begin_head(const Sequence& sequence, int64_t head) {
            const int64_t padded = rounded_up(sequence.q_len, kBlockQueries);
            weights_.begin_head(sequence, head);
            pack_summed(Arithmetic{}, sequence.queries(call_.query, head, call_.head_dim), 0, padded, all_.key_columns_,
                        queries_);
            const Rows grads = sequence.queries(call_.grad_output, head, call_.value_dim);
            pack_transposed<Arithmetic>(grads, 0, padded, all_.value_depth_, scratch_, grads_);
            pack_summed(Arithmetic{}, grads, 0, padded, all_.value_columns_, grads_summed_);
            clear(grad_query_, padded * all_.key_columns_);
            const Rows outputs = sequence.queries(call_.output, head, call_.value_dim);
            for (int64_t row = 0; row < padded; ++row) {
                inner_[row] = row < sequence.q_len ? inner(sequence, head, row, outputs, grads) : 0.0f;
                const RowNumbers numbers = row_numbers(call_.seed, sequence.number * call_.heads + head, row);
                first_numbers_[row] = numbers.first;
                second_numbers_[row] = numbers.second;
            }
        }

        float inner(const Sequence& sequence, int64_t head, int64_t row, const Rows& outputs, const Rows& grads) {
            float* const output = row_;
            float* const grad = row_ + all_.value_columns_;
            read_row(Floats{}, outputs.row(row), outputs.dtype, call_.value_dim, all_.value_columns_, output);
            read_row(Floats{}, grads.row(row), grads.dtype, call_.value_dim, all_.value_columns_, grad);
            Vec total{};
            for (int64_t at = 0; at < all_.value_columns_; at += kWidth) total += load(output + at) * load(grad + at);
            return sum(total) - (call_.grad_lse ? call_.grad_lse[sequence.at_query(head, row)] : 0.0f);
        }

        // Add what the keys from `first` on contribute; their own gradients lie at row `own`.
        void add_keys(const Sequence& sequence, int64_t kv_head, int64_t first, int64_t own) {
            const int64_t count = least(kBlockKeys, sequence.kv_len - first);
            weights_.begin_keys(sequence, kv_head, first, count);
            read_rows<Arithmetic>(sequence.keys(call_.value, kv_head, call_.value_dim), first, count, all_.value_depth_,
                                  values_);
            read_keys(Arithmetic{}, sequence.keys(call_.key, kv_head, call_.head_dim), first, count);
            const int64_t end = weights_.end_query(sequence);
            for (int64_t query = weights_.first_query(sequence); query < end; query += kBlockQueries) {
                if (!weights_.sees(sequence, query)) continue;
                weights_.compute(sequence, query, p_, derivatives_);
                product<Arithmetic>(values_, all_.value_depth_, 1, grads_ + query * all_.value_depth_, kPanel,
                                    all_.value_depth_ * kPanel, count, kBlockQueries, all_.value_depth_, ds_,
                                    kBlockQueries, false);
                for (int64_t key = 0; key < count; ++key) differentiate(query, first + key, key);
                add_products(Arithmetic{}, query, count, own);
            }
        }

        // From P and dO·Vᵀ of one key to P∘Z and dS.
        void differentiate(int64_t query, int64_t key, int64_t row) {
            float* const p = p_ + row * kBlockQueries;
            float* const ds = ds_ + row * kBlockQueries;
            const float* const derivatives = derivatives_ + row * kBlockQueries;
            const Bits below = all_bits(static_cast<uint32_t>(call_.drop_below));
            const Vec kept = all(static_cast<float>(call_.drop_scale));
            for (int64_t at = 0; at < kBlockQueries; at += kWidth) {
                const Vec weight = load(p + at);
                Vec grad = load(ds + at);
                if (call_.drop_below) {
                    const Bits numbers =
                        weight_numbers(load_bits(first_numbers_ + query + at), load_bits(second_numbers_ + query + at),
                                       all_bits(static_cast<uint32_t>(key)));
                    const Vec factor = either((Ints)(numbers >= below), kept, Vec{});
                    grad *= factor;
                    store(p + at, weight * factor);
                }
                grad = weight * (grad - load(inner_ + query + at));
                if (call_.softcap != 0.0) grad *= load(derivatives + at);
                store(ds + at, grad);
            }
        }

        void read_keys(Floats, const Rows& rows, int64_t first, int64_t count) {
            read_rows<Floats>(rows, first, count, all_.key_columns_, keys_);
        }

        void add_products(Floats, int64_t query, int64_t count, int64_t own) {
            const int64_t key_columns = all_.key_columns_, value_columns = all_.value_columns_;
            product<Floats>(p_, kBlockQueries, 1, grads_summed_ + query * value_columns, value_columns, kPanel, count,
                            value_columns, kBlockQueries, grad_value_ + own * value_columns, value_columns, true);
            product<Floats>(ds_, kBlockQueries, 1, queries_ + query * key_columns, key_columns, kPanel, count,
                            key_columns, kBlockQueries, grad_key_ + own * key_columns, key_columns, true);
            product<Floats>(ds_, 1, kBlockQueries, keys_, key_columns, kPanel, kBlockQueries, key_columns, count,
                            grad_query_ + query * key_columns, key_columns, true);
        }

        void gather_queries(const Sequence& sequence, int64_t head, float* own) {
            gather_queries(Arithmetic{}, sequence, head, own);
        }

        // Hand over dQ of a head: to `own` where it is part of a sum, else to the result.
        void gather_queries(Floats, const Sequence& sequence, int64_t head, float* own) {
            for (int64_t row = 0; row < sequence.q_len; ++row) hand_over(sequence, head, row, grad_query_ + row * all_.key_columns_, own);
        }

        void hand_over(const Sequence& sequence, int64_t head, int64_t row, float* from, float* own) {
            if (own != row_)
                __builtin_memcpy(own + row * call_.head_dim, from, sizeof(float) * static_cast<size_t>(call_.head_dim));
            else
                write(sequence.queries(call_.grad_query, head, call_.head_dim), row, from, call_.scale);
        }

#if defined(REGARD_PAIRS)
        // Pairs of keys for each column: dQᵀ is what is computed, since its sum is over keys.
        void read_keys(Pairs, const Rows& rows, int64_t first, int64_t count) {
            for (int64_t at = 0; at < count; at += 2) {
                const uint16_t* even = reinterpret_cast<const uint16_t*>(rows.row(first + at));
                const uint16_t* odd = reinterpret_cast<const uint16_t*>(rows.row(first + at + 1));
                for (int64_t column = 0; column < call_.head_dim; ++column)
                    keys_[column * kBlockKeys / 2 + at / 2] =
                        even[column] | (at + 1 < count ? static_cast<uint32_t>(odd[column]) << 16 : 0u);
            }
        }

        void add_products(Pairs, int64_t query, int64_t count, int64_t own) {
            const int64_t key_columns = all_.key_columns_, value_columns = all_.value_columns_, half = kBlockQueries / 2;
            for (int64_t key = 0; key < count; ++key) {
                Pairs::narrow(p_ + key * kBlockQueries, kBlockQueries, p_elements_ + key * half);
                Pairs::narrow(ds_ + key * kBlockQueries, kBlockQueries, ds_elements_ + key * half);
            }
            const uint16_t* const numbers = reinterpret_cast<const uint16_t*>(ds_elements_);
            for (int64_t key = 0; key < count; key += 2) {
                const uint16_t* const even = numbers + key * kBlockQueries;
                const uint16_t* const odd = even + kBlockQueries;
                uint32_t* const to = ds_summed_ + key / 2 * kBlockQueries;
                if (key + 1 < count)
                    for (int64_t at = 0; at < kBlockQueries; ++at) to[at] = even[at] | static_cast<uint32_t>(odd[at]) << 16;
                else
                    for (int64_t at = 0; at < kBlockQueries; ++at) to[at] = even[at];
            }
            product<Pairs>(p_elements_, half, 1, grads_summed_ + query / 2 * value_columns, value_columns, kPanel, count,
                           value_columns, half, grad_value_ + own * value_columns, value_columns, true);
            product<Pairs>(ds_elements_, half, 1, queries_ + query / 2 * key_columns, key_columns, kPanel, count,
                           key_columns, half, grad_key_ + own * key_columns, key_columns, true);
            product<Pairs>(keys_, kBlockKeys / 2, 1, ds_summed_, kBlockQueries, kPanel, call_.head_dim, kBlockQueries,
                           blocks_of(count, 2), grad_query_ + query * key_columns, kBlockQueries, true);
        }

        void gather_queries(Pairs, const Sequence& sequence, int64_t head, float* own) {
            float* const turned = p_;  // kBlockKeys · kBlockQueries floats hold kWidth rows of up to 240 columns
            for (int64_t row = 0; row < sequence.q_len; ++row) {
                const float* const block = grad_query_ + row / kBlockQueries * kBlockQueries * all_.key_columns_;
                for (int64_t column = 0; column < call_.head_dim; ++column)
                    turned[column] = block[column * kBlockQueries + row % kBlockQueries];
                hand_over(sequence, head, row, turned, own);
            }
        }
#endif

        const Backward& all_;
        const Call& call_;
        Weights<Arithmetic> weights_;
        Element *const queries_, *const grads_, *const grads_summed_, *const scratch_;
        float* const inner_;
        uint32_t *const first_numbers_, *const second_numbers_;
        Element *const values_, *const keys_;
        float *const row_, *const grad_query_, *const grad_key_, *const grad_value_;
        float *const p_, *const derivatives_, *const ds_;
        Element *const p_elements_, *const ds_elements_, *const ds_summed_;
    };

    const Call& call_;
    const Splits plan_;
    const int64_t value_depth_, key_columns_, value_columns_, padded_, group_;
};

}  // namespace regard::REGARD_ISA
