#include "dataplane/packet/fragments.h"

#include <algorithm>
#include <cstring>

#include "maglev/headers.h"

namespace guideway {

Fragments::Key Fragments::Key::Of(const uint8_t* ip, const ParsedPacket& packet, uint8_t protocol,
                                  uint64_t seed) {
  struct {
    uint8_t source[16], destination[16];
    uint32_t identification;
    uint8_t version, protocol;
    uint16_t zero;
  } name = {};
  static_assert(sizeof(name) == 40);
  const IpAddress source = SourceOf(ip), destination = DestinationOf(ip);
  std::memcpy(name.source, source.bytes(), sizeof(name.source));
  std::memcpy(name.destination, destination.bytes(), sizeof(name.destination));
  name.identification = packet.fragment_id;
  name.version = static_cast<uint8_t>(source.bits());
  // Of IPv4 it is part of the name (RFC 791), of IPv6 it is not (RFC 8200, section 4.5).
  if (source.is_v4()) name.protocol = protocol;
  const XXH128_hash_t hash = XXH3_128bits_withSeed(&name, sizeof(name), seed);
  return {hash.low64, hash.high64};
}

Fragments::Fragments()
    : fates_(kFates, PageSize::kTransparentHuge),
      memory_(kRing * kHeldSize, PageSize::kTransparentHuge),
      held_() {}

const Fragments::Fate* Fragments::Find(const Key& key, Nanoseconds now) const {
  const FateEntry* set = Set(key);
  for (size_t way = 0; way < kWays; ++way) {
    const FateEntry& entry = set[way];
    if (entry.used && entry.key == key && now - entry.since <= kFateTime) return &entry.fate;
  }
  return nullptr;
}

void Fragments::Remember(const Key& key, const Fate& fate, Nanoseconds now) {
  FateEntry* set = Set(key);
  FateEntry* place = &set[0];
  for (size_t way = 0; way < kWays; ++way) {
    FateEntry& entry = set[way];
    if (entry.used && entry.key == key) {
      place = &entry;
      break;
    }
    if (place->used && (!entry.used || entry.since < place->since)) place = &entry;
  }
  *place = {.key = key, .since = now, .fate = fate, .used = true};
  if (waiting_ == 0) return;
  for (uint64_t held = oldest_; held != next_; ++held) {
    if (held_[At(held)].state == State::kWaiting && keys_[At(held)] == key) MakeReady(held);
  }
  SkipToWaiting();
}

void Fragments::MakeReady(uint64_t place) {
  held_[At(place)].state = State::kReady;
  ready_[At(end_ready_++)] = static_cast<uint16_t>(At(place));
  --waiting_;
}

void Fragments::SkipToWaiting() {
  while (oldest_ != next_ && held_[At(oldest_)].state != State::kWaiting) ++oldest_;
}

void Fragments::Sweep(const Snapshot& snapshot) {
  for (size_t i = 0; i < kFates; ++i) {
    FateEntry& entry = fates_[i];
    if (entry.used && entry.fate.verdict == Verdict::kForward &&
        !snapshot.HasBackend(entry.fate.backend)) {
      entry.used = false;
    }
  }
}

bool Fragments::Hold(const Key& key, const Frame& frame, Nanoseconds now) {
  Held& held = held_[At(next_)];
  if (frame.length > kMaxHeldFrame || held.state != State::kFree) return false;
  if (waiting_ == kHeld) {
    MakeReady(oldest_);
    SkipToWaiting();
  }
  uint8_t* data = &memory_[At(next_) * kHeldSize] + Frame::kHeadroom;
  std::memcpy(data, frame.data, frame.length);
  held = {.since = now, .frame = frame, .state = State::kWaiting};
  held.frame.data = data;
  held.frame.was_held = held.frame.was_handed_over = true;
  keys_[At(next_)] = key;
  if (waiting_++ == 0) oldest_ = next_;
  ++next_;
  return true;
}

bool Fragments::Take(Nanoseconds now, bool all, Burst& burst) {
  for (; taken_count_ > 0; --taken_count_) held_[taken_[taken_count_ - 1]].state = State::kFree;
  while (waiting_ > 0 && (all || now - held_[At(oldest_)].since >= kHoldTime)) {
    MakeReady(oldest_);
    SkipToWaiting();
  }
  for (; first_ready_ != end_ready_ && taken_count_ < Burst::kSize; ++first_ready_) {
    Held& held = held_[ready_[At(first_ready_)]];
    held.state = State::kTaken;
    burst.packets[taken_count_].frame = held.frame;
    taken_[taken_count_++] = ready_[At(first_ready_)];
  }
  burst.size = static_cast<uint32_t>(taken_count_);
  return taken_count_ > 0;
}

}  // namespace guideway
