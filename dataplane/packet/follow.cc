#include "dataplane/packet/stages.h"
#include "maglev/headers.h"

namespace guideway {
namespace {

class Following {
 public:
  Following(const Snapshot& snapshot, Nanoseconds now, Fragments& fragments,
            WorkerCounters& counters)
      : snapshot_(snapshot), now_(now), fragments_(fragments), counters_(counters) {}

  // A first fragment, decided or on its way: those that follow shall know. Who is denied is denied
  // without it.
  void Remember(const Packet& p) {
    Fragments::Fate fate;
    if (p.undecided) {
      fate = {.verdict = Verdict::kForward, .backend = p.backend, .hash = p.hash};
    } else {
      // What was punted is punted whole, and where no nat is, without having to be remembered.
      fate = {.verdict = p.verdict, .reason = p.reason};
      if (fate.verdict == Verdict::kPunt && !snapshot_.IsNatBackend(SourceOf(p.ip()))) return;
      if (fate.verdict == Verdict::kDrop && fate.reason == Reason::kAccessDenied) return;
    }
    fragments_.Remember(Key(p), fate, now_);
  }

  bool Follow(Packet& p) {
    const Fragments::Fate* fate = fragments_.Find(Key(p), now_);
    // That of a backend that has left the configuration is none.
    if (fate == nullptr ||
        (fate->verdict == Verdict::kForward && !snapshot_.HasBackend(fate->backend))) {
      if (!p.frame.was_held && fragments_.Hold(Key(p), p.frame, now_)) return p.Hold();
      return p.direction == Direction::kToBackend ? p.Drop(Reason::kFragmentUnknown)
                                                  : p.Finish(Verdict::kPunt);
    }
    if (fate->verdict == Verdict::kDrop) return p.Drop(fate->reason);
    if (fate->verdict == Verdict::kPunt) return p.Finish(Verdict::kPunt);
    const Target& target = snapshot_.TargetOf(fate->backend);
    const Service& service = *snapshot_.FindService(target.service);
    // Between the two fragments an address may have become another thing.
    if (p.direction == Direction::kFromBackend && service.forwarding != Forwarding::kNat) {
      return p.Finish(Verdict::kPunt);
    }
    p.backend = fate->backend;
    if (p.direction == Direction::kToBackend) {
      p.SendTo(fate->backend, counters_.BackendIn(snapshot_, fate->backend));
    }
    p.service = target.service;
    p.hash = fate->hash;
    // The answer of a nat backend, like its first part.
    if (p.direction == Direction::kFromBackend) p.lookup = FlowLookup::kHit;
    return true;
  }

 private:
  Fragments::Key Key(const Packet& p) const {
    // The key of an ICMP error is that of the connection it is about.
    const uint8_t protocol = p.quote != 0 ? kProtocolIcmp : p.key.protocol;
    return Fragments::Key::Of(p.ip(), p.parsed, protocol, snapshot_.hash_seed());
  }

  const Snapshot& snapshot_;
  const Nanoseconds now_;
  Fragments& fragments_;
  WorkerCounters& counters_;
};

}  // namespace

void HandOver(const Snapshot& snapshot, uint16_t worker, size_t workers, Burst& burst) {
  if (!burst.has_fragments || workers == 1) return;
  burst.ForUndecided([&](Packet& p) {
    if (!p.parsed.is_fragment || p.frame.was_handed_over) return true;
    const auto key = Fragments::Key::Of(p.ip(), p.parsed, p.key.protocol, snapshot.hash_seed());
    const uint32_t owner = SlotOf(key.high, static_cast<uint32_t>(workers));
    return owner == worker || p.HandOver(static_cast<uint16_t>(owner));
  });
}

void Follow(const Snapshot& snapshot, Nanoseconds now, Fragments& fragments,
            WorkerCounters& counters, Burst& burst) {
  if (!burst.has_fragments) return;
  Following following(snapshot, now, fragments, counters);
  // In the order of arrival, over all first fragments, whatever became of them.
  for (Packet& p : burst.all()) {
    if (!p.parsed.is_fragment) continue;
    if (p.parsed.is_later_fragment) {
      if (p.undecided) p.undecided = following.Follow(p);
    } else if (p.owner == Packet::kNobody) {
      following.Remember(p);
    }
  }
}

}  // namespace guideway
