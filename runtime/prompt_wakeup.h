#pragma once

namespace moecast {

/// How soon a thread runs once what it waits for is there.
enum class Wakeup {
  InTurn,      // after the time slice of whoever computes on its core: milliseconds
  ShortSlice,  // ahead of threads with longer slices, as a rule
  RealTime,    // at once
};

/// Asks that the calling thread runs ahead of threads that compute: a lane that moves data needs a core for moments
/// only, but every moment that it waits for one is communication that nothing hides. (A GPU's copy engines and
/// collective kernels do not queue behind compute either.) Real-time priority where the system grants it, else a short
/// time slice (Linux 6.12 and later). Returns what was granted.
Wakeup ask_for_prompt_wakeups();

}  // namespace moecast
