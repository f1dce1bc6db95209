// Forward: output, log-sum-exp and statistics of every query row in one pass over the keys.
//
// Query rows of all heads that share a key head form one list, cut into blocks of some kBlockRows; keys are walked in
// blocks of kKeys. A block of scores is one product with the packed keys, gets its exponentials in place, and is multiplied with
// the values. Blocks that no row of a block may see are not computed.
#pragma once
#include "arena.h"
#include "row_sums.h"

namespace regard::REGARD_ISA {

constexpr int64_t kMostRows = 4 * kBlockRows;  // of a block
constexpr int64_t kKeys = 256;                 // a multiple of kPanel
constexpr int64_t kNearBytes = 1ll << 20;      // of keys and values that a core keeps near
constexpr int64_t kFewRows = 4;
constexpr float kRoundedFrom = 1.0e6f;  // a score from which on its rounding shows in its exponential

// Sizes of one call in elements of the arithmetic.
template <class Arithmetic>
struct Sizes {
    int64_t depth;    // of the product with the keys
    int64_t columns;  // of the output, whole vectors
    bool has_value;

    explicit Sizes(const Call& call)
        : depth(blocks_of(call.head_dim, Arithmetic::kPerElement)),
          columns(call.value.data ? rounded_up(call.value_dim, kWidth) : 0),
          has_value(call.value.data != nullptr) {}

    // Rows of a block: more of them where keys and values do not stay near the core, so that they are fetched less often.
    int64_t block_rows(int64_t keys) const {
        const int64_t bytes = keys * (depth + columns / Arithmetic::kPerElement) * static_cast<int64_t>(sizeof(float));
        return bytes <= kNearBytes ? kBlockRows : kMostRows;
    }

    int64_t key_elements(int64_t keys) const { return rounded_up(keys, kPanel) * depth; }
    int64_t value_elements(int64_t keys) const {
        return blocks_of(rounded_up(keys, kPanel), Arithmetic::kPerElement) * columns;
    }
};

// Keys and values of one head in the order of the products, for all its keys or for one block of them.
template <class Arithmetic>
struct Packed {
    typedef typename Arithmetic::Element Element;
    Element* keys;
    Element* values;
    Element* scratch;

    void pack(const Sequence& sequence, int64_t kv_head, const Sizes<Arithmetic>& sizes, int64_t first, int64_t count,
              int64_t at) const {
        const Call& call = sequence.call;
        pack_transposed<Arithmetic>(sequence.keys(call.key, kv_head, call.head_dim), first, count, sizes.depth, scratch,
                                    keys + at * sizes.depth);
        pack_values(sequence, kv_head, sizes, first, count, at);
    }

    void pack_values(const Sequence& sequence, int64_t kv_head, const Sizes<Arithmetic>& sizes, int64_t first,
                     int64_t count, int64_t at) const {
        const Call& call = sequence.call;
        if (!sizes.has_value) return;
        const Rows rows = sequence.keys(call.value, kv_head, call.value_dim);
        if (!summed_in_place<Arithmetic>(rows, sizes.columns, blocks_of(sequence.num_rows(), sizes.block_rows(sequence.kv_len))))
            pack_summed(Arithmetic{}, rows, first, count, sizes.columns,
                        values + at / Arithmetic::kPerElement * sizes.columns);
    }
};

// A block of query rows on its way over the keys.
template <class Arithmetic>
class RowBlock {
  public:
    typedef typename Arithmetic::Element Element;

    // Of at most `rows` rows.
    RowBlock(const Call& call, int64_t rows, Arena& arena)
        : call_(call),
          sizes_(call),
          wanted_(call),
          extras_(has_extras(call)),
          one_line_((call.mask.data || call.bias.data) && call.softcap == 0.0 && !call.slopes && call.mask.row == 0 &&
                    call.bias.row == 0),
          queries_(arena.take<Element>(rows * sizes_.depth)),
          scores_(arena.take<float>(rows * kKeys)),
          weights_(Arithmetic::kPerElement == 1 ? nullptr : arena.take<Element>(rows * kKeys / 2)),
          output_(arena.take<float>(rows * sizes_.columns)),
          line_(arena.take<float>(kKeys)),
          sums_(arena.take<RowSums>(rows)) {}

    static int64_t bytes(const Call& call, int64_t rows) {
        const Sizes<Arithmetic> sizes(call);
        return Arena::bytes_of<Element>(rows * sizes.depth) + Arena::bytes_of<float>(rows * kKeys) +
               (Arithmetic::kPerElement == 1 ? 0 : Arena::bytes_of<Element>(rows * kKeys / 2)) +
               Arena::bytes_of<float>(rows * sizes.columns) + Arena::bytes_of<float>(kKeys) +
               Arena::bytes_of<RowSums>(rows);
    }

    // Take rows first … first + count of the list of a key head's rows.
    void begin(const Sequence& sequence, int64_t kv_head, int64_t first, int64_t count) {
        count_ = count;
        first_key_ = sequence.kv_len;
        end_key_ = 0;
        full_from_ = 0;
        full_to_ = sequence.kv_len;
        for (int64_t row = 0; row < count; ++row) {
            Place& place = places_[row];
            place.head = kv_head * sequence.group() + (first + row) / sequence.q_len;
            place.row = (first + row) % sequence.q_len;
            place.position = sequence.position(place.row);
            place.first_key = sequence.first_key(place.position);
            place.end_key = sequence.end_key(place.position);
            first_key_ = least(first_key_, place.first_key);
            end_key_ = most(end_key_, place.end_key);
            full_from_ = most(full_from_, place.first_key);
            full_to_ = least(full_to_, place.end_key);
            const Rows rows = sequence.queries(call_.query, place.head, call_.head_dim);
            read_row(Arithmetic{}, rows.row(place.row), rows.dtype, rows.width, sizes_.depth,
                     queries_ + row * sizes_.depth);
            sums_[row].clear();
        }
        for (int64_t at = 0; at < count * sizes_.columns; ++at) output_[at] = 0.0f;
    }

    int64_t first_key() const { return first_key_ / kKeys * kKeys; }
    int64_t end_key() const { return end_key_; }

    // Whether a row may see one of the keys first … first + count, as far as the mask says, and the bias.
    bool sees(const Sequence& sequence, int64_t first, int64_t count) const {
        bool open = false;
        for (int64_t row = 0; row < count_ && !open; ++row)
            if (row == 0 || places_[row].head != places_[row - 1].head)
                open = sequence.bias_opens(places_[row].head, first, count);
        if (!open) return false;
        if (!call_.mask.data) return true;
        const bool one_row = call_.mask.row == 0;
        for (int64_t row = 0; row < count_; ++row) {
            const Place& place = places_[row];
            if (one_row && row && place.head == places_[row - 1].head) continue;
            const uint8_t* mask = sequence.mask(place.head, place.row, first);
            if (call_.mask.key == 0) {
                if (mask[0]) return true;
            } else if (call_.mask.key == 1) {
                if (has_byte(mask, count)) return true;
            } else {
                for (int64_t key = 0; key < count; ++key)
                    if (mask[key * call_.mask.key]) return true;
            }
        }
        return false;
    }

    // The keys from `first` on where few queries can be compared with them as they lie in memory, else null.
    const Element* keys_in_place(const Rows& keys, int64_t first) const {
        if (count_ > kFewRows || sizes_.depth % kWidth != 0) return nullptr;
        return rows_in_place<Arithmetic>(keys, first);
    }

    // Add the keys first … first + count, at most kKeys: as they lie in memory, `ldk` elements apart, where `direct` is
    // given, else as packed at `keys`. Rows of `values` are `ldv` elements apart.
    void add(const Sequence& sequence, int64_t kv_head, const Element* direct, int64_t ldk, const Element* keys,
             const Element* values, int64_t ldv, int64_t first, int64_t count) {
        if (direct)
            dots<Arithmetic>(queries_, count_, sizes_.depth, direct, ldk, count, scores_, kKeys);
        else
            product<Arithmetic>(queries_, sizes_.depth, 1, keys, kPanel, sizes_.depth * kPanel, count_, count,
                                sizes_.depth, scores_, kKeys, false);
        line_head_ = -1;
        const bool whole = first >= full_from_ && first + count <= full_to_ && count % kWidth == 0;
        for (int64_t row = 0; row < count_; ++row) add_row(sequence, kv_head, row, first, count, whole);
        if (!sizes_.has_value) return;
        const int64_t depth = blocks_of(count, Arithmetic::kPerElement);
        if constexpr (Arithmetic::kPerElement == 1) {
            product<Arithmetic>(scores_, kKeys, 1, values, ldv, kPanel, count_, sizes_.columns, depth, output_,
                                sizes_.columns, true);
        } else {
            product<Arithmetic>(weights_, kKeys / 2, 1, values, ldv, kPanel, count_, sizes_.columns, depth, output_,
                                sizes_.columns, true);
        }
    }

    void finish(const Sequence& sequence, int64_t kv_head) {
        float first_norm = 0.0f;
        if (wanted_.keys && call_.value_norms && sequence.kv_len)
            first_norm = call_.value_norms[(sequence.batch * call_.kv_heads + kv_head) * call_.kv_len +
                                           sequence.kv_begin];
        for (int64_t row = 0; row < count_; ++row) {
            const Place& place = places_[row];
            const float inverse =
                finish_row(call_, sums_[row], sequence.at_query(place.head, place.row), first_norm);
            if (!sizes_.has_value) continue;
            float* const output = output_ + row * sizes_.columns;
            const Vec factor = all(inverse);
            for (int64_t at = 0; at < sizes_.columns; at += kWidth) store(output + at, load(output + at) * factor);
            const Rows rows = sequence.queries(call_.output, place.head, call_.value_dim);
            write_floats(output, rows.dtype, rows.width, const_cast<char*>(rows.row(place.row)));
        }
    }

    // Keep what was summed up for the rows, and add what was kept of other keys.
    void save(RowSums* sums, float* output) const {
        __builtin_memcpy(sums, sums_, sizeof(RowSums) * static_cast<size_t>(count_));
        __builtin_memcpy(output, output_, sizeof(float) * static_cast<size_t>(count_ * sizes_.columns));
    }
    void join(const RowSums* sums, const float* output) {
        for (int64_t row = 0; row < count_; ++row) {
            float own, other;
            sums_[row].join(sums[row], &own, &other);
            float* const to = output_ + row * sizes_.columns;
            const float* const from = output + row * sizes_.columns;
            for (int64_t at = 0; at < sizes_.columns; at += kWidth)
                store(to + at, load(to + at) * own + load(from + at) * other);
        }
    }

  private:
    struct Place {
        int64_t head, row, position, first_key, end_key;
    };

    static bool has_byte(const uint8_t* bytes, int64_t count) {
        uint64_t any = 0;
        int64_t at = 0;
        for (; at + 8 <= count; at += 8) {
            uint64_t word;
            __builtin_memcpy(&word, bytes + at, 8);
            any |= word;
        }
        for (; at < count; ++at) any |= bytes[at];
        return any != 0;
    }

    // One row of the block: from products to exponentials, with everything that is summed up on the way.
    void add_row(const Sequence& sequence, int64_t kv_head, int64_t row, int64_t first, int64_t count, bool whole) {
        const Place& place = places_[row];
        float* const scores = scores_ + row * kKeys;
        const int64_t padded = rounded_up(count, kWidth);
        float factor = static_cast<float>(call_.scale) * kLog2E;
        if (one_line_) {
            make_line(sequence, place, first, count, padded);
            if (!line_is_zero_ || factor <= 0.0f) {
                for (int64_t at = 0; at < padded; at += kWidth)
                    store(scores + at, load(scores + at) * factor + load(line_ + at));
                factor = 1.0f;
            }
        } else if (extras_ || factor <= 0.0f) {
            shape(sequence, place, scores, first, count, padded);
            factor = 1.0f;
        }
        if (!whole) hide(scores, padded, place.first_key - first, least(place.end_key - first, count));
        RowSums& sums = sums_[row];
        Vec highest = load(scores);
        for (int64_t at = kWidth; at < padded; at += kWidth) highest = larger(highest, load(scores + at));
        const float high = largest(highest) * factor;
        float to = high > sums.shift ? high : sums.shift;
        if (to == -kInfinity) {
            if (!holds_nan(scores, padded)) {
                if (sizes_.has_value) write_zeros(row, padded);
                return;
            }
            to = 0.0f;  // a maximum passes NaN over, but the row has to become NaN
        }
        if (high > kRoundedFrom || high < -kRoundedFrom) {
            // Multiplied and subtracted in one step, the largest score would be off its own rounded value by its rounding.
            for (int64_t at = 0; at < padded; at += kWidth) store(scores + at, load(scores + at) * factor);
            factor = 1.0f;
        }
        if (wanted_.any) look(sums, place, scores, first, count, padded, factor);
        const float moved = sums.move(to);
        if (moved != 1.0f && sizes_.has_value) {
            float* const output = output_ + row * sizes_.columns;
            for (int64_t at = 0; at < sizes_.columns; at += kWidth) store(output + at, load(output + at) * moved);
        }
        exponentials(sequence, kv_head, sums, place, scores, first, padded, factor);
        if (!sizes_.has_value) return;
        if (call_.drop_below) drop(sequence, place, scores, first, padded);
        if constexpr (Arithmetic::kPerElement == 2) Arithmetic::narrow(scores, padded, weights_ + row * kKeys / 2);
    }

    static bool holds_nan(const float* scores, int64_t padded) {
        Ints found = {};
        for (int64_t at = 0; at < padded; at += kWidth) {
            const Vec score = load(scores + at);
            found |= score != score;
        }
        for (int lane = 0; lane < kWidth; ++lane)
            if (found[lane]) return true;
        return false;
    }

    void write_zeros(int64_t row, int64_t padded) {
        float* const scores = scores_ + row * kKeys;
        for (int64_t at = 0; at < padded; at += kWidth) store(scores + at, Vec{});
        if constexpr (Arithmetic::kPerElement == 2) Arithmetic::narrow(scores, padded, weights_ + row * kKeys / 2);
    }

    // What mask and bias add to every row of a head, as padding does: made once for a block of keys.
    void make_line(const Sequence& sequence, const Place& place, int64_t first, int64_t count, int64_t padded) {
        const bool by_head = call_.mask.head != 0 || call_.bias.head != 0;
        if (line_head_ == (by_head ? place.head : 0)) return;
        line_head_ = by_head ? place.head : 0;
        const Line line(sequence, place.head, place.row, first, true);
        Ints other = {};
        for (int64_t at = 0; at < padded; at += kWidth) {
            const Vec added = at < count ? Line::shaped(line, Vec{}, at, count - at, Vec{}) : Vec{};
            store(line_ + at, added);
            other |= added != 0.0f;
        }
        line_is_zero_ = true;
        for (int lane = 0; lane < kWidth; ++lane) line_is_zero_ = line_is_zero_ && !other[lane];
    }

    void shape(const Sequence& sequence, const Place& place, float* scores, int64_t first, int64_t count,
               int64_t padded) const {
        const Line line(sequence, place.head, place.row, first, true);
        Vec distance = (lanes() + static_cast<float>(first - place.position));
        for (int64_t at = 0; at < padded; at += kWidth, distance += static_cast<float>(kWidth))
            store(scores + at, Line::shaped(line, load(scores + at), at, count - at, absolute(distance)));
    }

    // Set what lies outside from … to to -inf.
    static void hide(float* scores, int64_t padded, int64_t from, int64_t to) {
        for (int64_t at = 0; at < padded; at += kWidth) {
            if (at >= from && at + kWidth <= to) continue;
            const Ints index = int_lanes() + static_cast<int32_t>(at);
            const Ints seen = (index >= static_cast<int32_t>(most(from, 0))) & (index < static_cast<int32_t>(most(to, 0)));
            store(scores + at, either(seen, load(scores + at), all(-kInfinity)));
        }
    }

    // What is taken of the scores themselves.
    void look(RowSums& sums, const Place& place, const float* scores, int64_t first, int64_t count, int64_t padded,
              float factor) const {
        const auto at = [&](int64_t key) { return scores[key - first] * factor; };
        const auto holds = [&](int64_t key) { return key >= first && key < first + count; };
        if (first == 0) sums.first = at(0);
        if (holds(place.position)) sums.self = at(place.position);
        if (holds(place.position - 1)) sums.previous = at(place.position - 1);
        if (!wanted_.scores) return;
        Vec total{}, seen{};
        for (int64_t key = 0; key < padded; key += kWidth) {
            const Vec score = load(scores + key) * factor;
            const Ints visible = score > -kInfinity;
            sums.smallest = smaller(sums.smallest, either(visible, score, all(kInfinity)));
            total += either(visible, score, Vec{});
            seen += either(visible, all(1.0f), Vec{});
        }
        const float number = sum(seen);
        if (number == 0.0f) return;
        const float mean = sum(total) / number;
        Vec deviation{};
        for (int64_t key = 0; key < padded; key += kWidth) {
            const Vec score = load(scores + key) * factor;
            const Vec apart = either(score > -kInfinity, score - mean, Vec{});
            deviation += apart * apart;
        }
        sums.join_spread(number, mean, sum(deviation));
    }

    void exponentials(const Sequence& sequence, int64_t kv_head, RowSums& sums, const Place& place, float* scores,
                      int64_t first, int64_t padded, float factor) const {
        if (wanted_.sums)
            exponentials<true>(sums, scores, padded, factor);
        else
            exponentials<false>(sums, scores, padded, factor);
        if (wanted_.position) add_positions(sums, place, scores, first, padded);
        if (wanted_.keys) add_keys(sequence, kv_head, sums, scores, first, padded);
    }

    template <bool kSums>
    static void exponentials(RowSums& sums, float* scores, int64_t padded, float factor) {
        const Vec shift = all(sums.shift);
        Vec total = sums.total, energy = sums.energy, square = sums.square;
        for (int64_t at = 0; at < padded; at += kWidth) {
            // At most 0: scores of a billion would be above their own rounded maximum otherwise.
            const Vec below = smaller(Vec{}, load(scores + at) * factor - shift);
            const Vec found = exp2(below);
            store(scores + at, found);
            total += found;
            if (kSums) {
                energy += found * larger(below, all(-1.0e4f));  // 0 · -inf has to be 0
                square += found * found;
            }
        }
        sums.total = total;
        sums.energy = energy;
        sums.square = square;
    }

    static void add_positions(RowSums& sums, const Place& place, const float* weights, int64_t first, int64_t padded) {
        Vec key = lanes() + static_cast<float>(first);
        const Vec own = all(static_cast<float>(place.position));
        for (int64_t at = 0; at < padded; at += kWidth, key += static_cast<float>(kWidth)) {
            const Vec weight = load(weights + at);
            sums.position += weight * key;
            sums.distance += weight * absolute(own - key);
        }
    }

    void add_keys(const Sequence& sequence, int64_t kv_head, RowSums& sums, const float* weights, int64_t first,
                  int64_t padded) const {
        const int64_t begin = sequence.kv_begin + first, present = least(padded, sequence.kv_len - first);
        if (call_.key_weights)
            sums.mass += weighted(weights, call_.key_weights + sequence.batch * call_.kv_len + begin, present);
        if (call_.value_norms) {
            const int64_t head = sequence.batch * call_.kv_heads + kv_head;
            sums.contribution += weighted(weights, call_.value_norms + head * call_.kv_len + begin, present);
        }
    }

    static Vec weighted(const float* weights, const float* factors, int64_t count) {
        Vec total{};
        int64_t at = 0;
        for (; at + kWidth <= count; at += kWidth) total += load(weights + at) * load(factors + at);
        for (; at < count; ++at) total[0] += weights[at] * factors[at];
        return total;
    }

    void drop(const Sequence& sequence, const Place& place, float* weights, int64_t first, int64_t padded) const {
        const RowNumbers own = row_numbers(call_.seed, sequence.number * call_.heads + place.head, place.row);
        const Bits below = all_bits(static_cast<uint32_t>(call_.drop_below));
        const Vec factor = all(static_cast<float>(call_.drop_scale));
        Bits keys = (Bits)int_lanes() + static_cast<uint32_t>(first);
        for (int64_t at = 0; at < padded; at += kWidth, keys += static_cast<uint32_t>(kWidth)) {
            const Bits numbers = weight_numbers(all_bits(own.first), all_bits(own.second), keys);
            store(weights + at, either((Ints)(numbers >= below), load(weights + at) * factor, Vec{}));
        }
    }

    const Call& call_;
    const Sizes<Arithmetic> sizes_;
    const Wanted wanted_;
    const bool extras_;
    const bool one_line_;
    Element* const queries_;
    float* const scores_;
    Element* const weights_;
    float* const output_;
    float* const line_;
    RowSums* const sums_;
    int64_t line_head_ = -1;
    bool line_is_zero_ = false;
    int64_t count_ = 0, first_key_ = 0, end_key_ = 0, full_from_ = 0, full_to_ = 0;
    Place places_[kMostRows];
};

}  // namespace regard::REGARD_ISA
