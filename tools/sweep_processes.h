#pragma once

#include <memory>

#include "runtime/comm/transport.h"
#include "sim/sweep/sweep_workers.h"

namespace moecast {

/// The first rank of a sweep that runs as several processes: hands out batches of requests to the other ranks as they
/// ask for them, works on some with threads of its own, and takes all rows. Batches get smaller towards the end, so
/// that nobody waits long for the last. Every other rank runs follow_sweep. Spec, points and transport outlive it; the
/// destructor lets the other ranks go.
class SweepProcesses final : public SweepWorkers {
 public:
  SweepProcesses(Transport& transport, const SweepSpec& spec, const std::vector<SweepPoint>& points, unsigned threads);
  ~SweepProcesses() override;
  SweepProcesses(const SweepProcesses&) = delete;
  SweepProcesses& operator=(const SweepProcesses&) = delete;

  [[nodiscard]] Status evaluate(std::span<const SweepRequest> requests, const TakeRow& take,
                                const std::function<bool()>& stop) override;

 private:
  class Peer;
  struct Round;
  void serve(Round& round);
  void work(Round& round);

  Transport& transport_;
  const SweepSpec& spec_;
  const std::vector<SweepPoint>& points_;
  unsigned threads_;
  std::uint64_t hash_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

/// Any other rank: evaluates batches until the first rank lets it go. `stop` ends a batch early; the first rank decides
/// what follows. BadInput (also at the first rank) if the two have not read the same sweep.
[[nodiscard]] Status follow_sweep(Transport& transport, const SweepSpec& spec, const std::vector<SweepPoint>& points,
                                  unsigned threads, const std::function<bool()>& stop);

}  // namespace moecast
