// The kernels of one instruction set, and how to choose among them.
#pragma once
#include "call.h"

namespace regard {

struct Kernels {
    const char* name;
    bool (*supported)();
    void (*forward)(const Call&);
    void (*backward)(const Call&);
    void (*columns)(const Call&);
    void (*linear)(const LinearCall&);
};

}  // namespace regard
