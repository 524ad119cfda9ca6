// Which instruction set the CPU launchers use. Units named <op>.avx2.cpp and <op>.avx512.cpp are compiled
// with those flags; <op>.cpp picks one at run time. NERFAD_CPU_ISA=portable|avx2|avx512|amx lowers the
// choice.
#pragma once

namespace nerfad {

enum class Isa : int { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kAmx = 3 };

Isa detected_isa();     // the best that this machine and its operating system allow
Isa current_isa();      // detected, lowered by NERFAD_CPU_ISA or set_isa
void set_isa(Isa isa);  // for tests: clamps to detected_isa()
const char* isa_name(Isa isa);

}  // namespace nerfad
