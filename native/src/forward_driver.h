// Which thread computes what of a forward call.
//
// A unit is one key head of one sequence with the query heads that share it. Where there are units enough, a thread
// takes a whole one. Where there are few with many rows, all threads pack its keys together and share its row blocks.
// Where there are few with few rows, as in decoding, each thread takes a part of the keys, and the parts are joined in
// their order, so that the result does not depend on who was first.
#pragma once
#include "forward.h"

namespace regard::REGARD_ISA {

template <class Arithmetic>
class Forward {
  public:
    explicit Forward(const Call& call)
        : call_(call), sizes_(call), units_(num_sequences(call) * call.kv_heads), threads_(static_cast<int>(call.threads)) {
        for (int64_t number = 0; number < num_sequences(call); ++number) {
            const Sequence sequence(call, number);
            most_keys_ = most(most_keys_, sequence.kv_len);
            most_rows_ = most(most_rows_, sequence.num_rows());
        }
        rows_ = least(sizes_.block_rows(most_keys_), rounded_up(most_rows_, kBlockRows));
    }

    void run() const {
        if (most_rows_ == 0) return;
        const int64_t splits = num_splits();
        if (units_ >= 2 * threads_ || threads_ == 1)
            run_units();
        else if (most_rows_ > kBlockRows)
            run_shared();
        else if (splits > 1)
            run_split(splits);
        else
            run_units();
    }

  private:
    typedef typename Arithmetic::Element Element;

    struct Unit {
        Sequence sequence;
        int64_t kv_head;
        Unit(const Call& call, int64_t unit) : sequence(call, unit / call.kv_heads), kv_head(unit % call.kv_heads) {}
        int64_t num_rows() const { return sequence.num_rows(); }
    };

    int64_t num_splits() const {
        const int64_t wanted = blocks_of(4 * threads_, units_);
        return most(1, least(wanted, blocks_of(most_keys_, kKeys)));
    }

    Packed<Arithmetic> take_packed(Arena& arena, int64_t keys) const {
        return {arena.take<Element>(sizes_.key_elements(keys)), arena.take<Element>(sizes_.value_elements(keys)),
                arena.take<Element>(kPanel * sizes_.depth)};
    }
    int64_t packed_bytes(int64_t keys) const {
        return Arena::bytes_of<Element>(sizes_.key_elements(keys)) +
               Arena::bytes_of<Element>(sizes_.value_elements(keys)) + scratch_bytes();
    }
    int64_t scratch_bytes() const { return Arena::bytes_of<Element>(kPanel * sizes_.depth); }

    // Walk a block of rows over the keys from … to, which are packed at `packed` from key `origin` on, or where
    // `stream` says so are packed there one block at a time.
    void walk(RowBlock<Arithmetic>& block, const Unit& unit, const Packed<Arithmetic>& packed, bool stream, int64_t from,
              int64_t to) const {
        const Sequence& sequence = unit.sequence;
        const Rows keys = sequence.keys(call_.key, unit.kv_head, call_.head_dim);
        const Rows values = sequence.keys(call_.value, unit.kv_head, call_.value_dim);
        const int64_t num_reads = blocks_of(sequence.num_rows(), sizes_.block_rows(sequence.kv_len));
        const Element* const in_place =
            sizes_.has_value ? summed_in_place<Arithmetic>(values, sizes_.columns, num_reads) : nullptr;
        to = least(to, block.end_key());
        for (int64_t first = most(from, block.first_key()); first < to; first += kKeys) {
            const int64_t count = least(kKeys, to - first), at = stream ? 0 : first;
            if (!block.sees(sequence, first, count)) continue;
            const Element* const direct = stream ? block.keys_in_place(keys, first) : nullptr;
            if (direct)
                packed.pack_values(sequence, unit.kv_head, sizes_, first, count, 0);
            else if (stream)
                packed.pack(sequence, unit.kv_head, sizes_, first, count, 0);
            const Element* value = packed.values + at / Arithmetic::kPerElement * sizes_.columns;
            block.add(sequence, unit.kv_head, direct, keys.stride / Arithmetic::kPerElement,
                      packed.keys + at * sizes_.depth, in_place ? in_place + first * values.stride : value, in_place ? values.stride : sizes_.columns,
                      first, count);
        }
    }

    void run_units() const {
        const bool stream = most_rows_ <= kBlockRows;
        const int64_t keys = stream ? kKeys : most_keys_;
#pragma omp parallel num_threads(threads_)
        {
            Arena arena(packed_bytes(keys) + RowBlock<Arithmetic>::bytes(call_, rows_));
            const Packed<Arithmetic> packed = take_packed(arena, keys);
            RowBlock<Arithmetic> block(call_, rows_, arena);
            const MatrixUnits<Arithmetic> held;
#pragma omp for schedule(dynamic, 1)
            for (int64_t index = 0; index < units_; ++index) {
                const Unit unit(call_, index);
                if (!stream)
                    packed.pack(unit.sequence, unit.kv_head, sizes_, 0, unit.sequence.kv_len, 0);
                for (int64_t first = 0; first < unit.num_rows(); first += rows_) {
                    block.begin(unit.sequence, unit.kv_head, first, least(rows_, unit.num_rows() - first));
                    walk(block, unit, packed, stream, 0, unit.sequence.kv_len);
                    block.finish(unit.sequence, unit.kv_head);
                }
            }
        }
    }

    void run_shared() const {
        Arena shared(packed_bytes(most_keys_));
        const Packed<Arithmetic> packed = take_packed(shared, most_keys_);
#pragma omp parallel num_threads(threads_)
        {
            Arena arena(scratch_bytes() + RowBlock<Arithmetic>::bytes(call_, rows_));
            Packed<Arithmetic> own = packed;
            own.scratch = arena.take<Element>(kPanel * sizes_.depth);
            RowBlock<Arithmetic> block(call_, rows_, arena);
            const MatrixUnits<Arithmetic> held;
            for (int64_t index = 0; index < units_; ++index) {
                const Unit unit(call_, index);
                const int64_t kv_len = unit.sequence.kv_len;
#pragma omp for schedule(static)
                for (int64_t first = 0; first < kv_len; first += kKeys)
                    own.pack(unit.sequence, unit.kv_head, sizes_, first, least(kKeys, kv_len - first), first);
                const int64_t blocks = blocks_of(unit.num_rows(), rows_);
                // From the last rows to the first: where the call is causal, those take longest.
#pragma omp for schedule(dynamic, 1)
                for (int64_t at = 0; at < blocks; ++at) {
                    const int64_t first = (blocks - 1 - at) * rows_;
                    block.begin(unit.sequence, unit.kv_head, first, least(rows_, unit.num_rows() - first));
                    walk(block, unit, packed, false, 0, kv_len);
                    block.finish(unit.sequence, unit.kv_head);
                }
            }
        }
    }

    void run_split(int64_t splits) const {
        Arena parts(units_ * splits * (Arena::bytes_of<RowSums>(rows_) + Arena::bytes_of<float>(rows_ * sizes_.columns)) + 64);
        RowSums* const sums = parts.take<RowSums>(units_ * splits * rows_);
        float* const outputs = parts.take<float>(units_ * splits * rows_ * sizes_.columns);
        const auto at = [&](int64_t index, int64_t split) { return (index * splits + split) * rows_; };
#pragma omp parallel num_threads(threads_)
        {
            Arena arena(packed_bytes(kKeys) + RowBlock<Arithmetic>::bytes(call_, rows_));
            const Packed<Arithmetic> packed = take_packed(arena, kKeys);
            RowBlock<Arithmetic> block(call_, rows_, arena);
            const MatrixUnits<Arithmetic> held;
#pragma omp for schedule(dynamic, 1)
            for (int64_t task = 0; task < units_ * splits; ++task) {
                const Unit unit(call_, task / splits);
                const int64_t split = task % splits, blocks = blocks_of(unit.sequence.kv_len, kKeys);
                block.begin(unit.sequence, unit.kv_head, 0, unit.num_rows());
                walk(block, unit, packed, true, blocks * split / splits * kKeys, 
                     least(blocks * (split + 1) / splits * kKeys, unit.sequence.kv_len));
                const int64_t place = at(task / splits, split);
                block.save(sums + place, outputs + place * sizes_.columns);
            }
#pragma omp for schedule(static)
            for (int64_t index = 0; index < units_; ++index) {
                const Unit unit(call_, index);
                block.begin(unit.sequence, unit.kv_head, 0, unit.num_rows());
                for (int64_t split = 0; split < splits; ++split)
                    block.join(sums + at(index, split), outputs + at(index, split) * sizes_.columns);
                block.finish(unit.sequence, unit.kv_head);
            }
        }
    }

    const Call& call_;
    const Sizes<Arithmetic> sizes_;
    const int64_t units_;
    const int threads_;
    int64_t most_keys_ = 0, most_rows_ = 0;
    int64_t rows_ = 0;  // of a block
};

}  // namespace regard::REGARD_ISA
