// Memory of one thread for one call.
#pragma once
#include <cstdlib>

#include "simd.h"

namespace regard::REGARD_ISA {

// One allocation, cut into parts that begin on cache lines.
class Arena {
  public:
    explicit Arena(int64_t bytes) : data_(static_cast<char*>(std::aligned_alloc(64, rounded_up(bytes, 64)))) {
        if (!data_) std::abort();
    }
    ~Arena() { std::free(data_); }
    Arena(const Arena&) = delete;
    Arena& operator=(const Arena&) = delete;

    template <class Type>
    Type* take(int64_t count) {
        Type* const found = reinterpret_cast<Type*>(data_ + used_);
        used_ += bytes_of<Type>(count);
        return found;
    }
    template <class Type>
    static int64_t bytes_of(int64_t count) {
        return rounded_up(count * static_cast<int64_t>(sizeof(Type)), 64);
    }

  private:
    char* data_;
    int64_t used_ = 0;
};

}  // namespace regard::REGARD_ISA
