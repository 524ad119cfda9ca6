// Which instruction set the CPU launchers use. Units named <op>.<set>.cpp are compiled with those flags;
// <op>.cpp picks one at run time. NERFAD_CPU_ISA=portable|avx2|avx512|avx512bf16|amx lowers the choice. The
// last two differ from avx512 only for bfloat16 operands.
#pragma once

namespace nerfad {

enum class Isa : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kAvx512Bf16 = 3, kAmx = 4 };

Isa detected_isa();     // the best that this machine and its operating system allow
Isa current_isa();      // detected, lowered by NERFAD_CPU_ISA or set_isa
void set_isa(Isa isa);  // for tests: clamps to detected_isa()
const char* isa_name(Isa isa);

// Whether AVX-512 units read tables with gather instructions, where they can do either; the bits are the
// same. Measured at the first call, on this machine; NERFAD_CPU_GATHER=0|1 decides instead.
bool gathers();
void set_gathers(bool on);  // for tests and benchmarks

}  // namespace nerfad
