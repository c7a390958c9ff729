#pragma once

#include "hwprofiles/profile.h"

namespace moecast {

// Everything takes `factor` times as long.
void scale(double factor, CostCurve& curve);
void scale(double factor, GemmTable& table);
void scale(double factor, AttentionCost& cost);
void scale(double factor, MemoryCost& cost);
void scale(double factor, LinkProfile& link);

}  // namespace moecast
