// Whether this process may use the matrix units (AMX) for bfloat16.
#pragma once

namespace regard {

bool may_use_amx();

}  // namespace regard
