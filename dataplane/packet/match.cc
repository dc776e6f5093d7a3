#include "maglev/headers.h"
#include "dataplane/packet/parse.h"
#include "dataplane/packet/stages.h"

namespace guideway {
namespace {

// The packet that an ICMP error quotes.
struct Quote {
  uint16_t offset = 0;  // from the IP header of the error
  FlowKey key;
  bool is_named = true;  // its connection can be told; not so of a later fragment without ports
};

// False if it is cut short before its ports, or does not look like a packet of that family. One of
// a protocol without ports has ports 0.
bool ReadQuote(const uint8_t* ip, const ParsedPacket& packet, uint8_t version, Quote& quote) {
  const size_t offset = packet.transport_offset + sizeof(IcmpHeader);
  const std::span<const uint8_t> bytes(ip + offset, packet.ip_length - offset);
  ParsedPacket quoted;
  if (!ReadQuotedIp(bytes, quoted, quote.key) || quote.key.version != version) return false;
  quote.offset = static_cast<uint16_t>(offset);
  const bool has_ports = quote.key.protocol == kProtocolTcp || quote.key.protocol == kProtocolUdp;
  quote.is_named = !has_ports || !quoted.is_later_fragment;
  if (!has_ports || !quote.is_named) return true;
  constexpr size_t kLeast = 8;  // of the transport header: RFC 792
  if (quoted.transport_length() < kLeast) return false;
  quote.key.source_port = Read<uint16_t>(bytes.data() + quoted.transport_offset);
  quote.key.destination_port = Read<uint16_t>(bytes.data() + quoted.transport_offset + 2);
  return true;
}

// The key of the connection whose answer is quoted: as the client sends it.
FlowKey Reversed(FlowKey key) {
  std::swap(key.source, key.destination);
  std::swap(key.source_port, key.destination_port);
  return key;
}

// Whether this may be an outer packet, of whatever kind of tunnel.
bool IsOuter(const FlowKey& key) {
  switch (key.protocol) {
    case kProtocolIpv4:
    case kProtocolIpv6:
    case kProtocolGre: return true;
    case kProtocolUdp: return NetworkOrder(key.source_port) >= kFirstTunnelPort;
    default: return false;
  }
}

class Matcher {
 public:
  Matcher(const Snapshot& snapshot, const FlowTable& flows, Burst& burst)
      : snapshot_(snapshot), flows_(flows), burst_(burst), seed_(snapshot.hash_seed()) {}

  bool Match(uint8_t i) {
    Burst& burst = burst_;
    const FlowKey& key = burst.keys[i];
    // Often the service of the packet before.
    if (!key.IsToTheSameAs(*last_) || burst.packets[i].is_later_fragment) {
      const Vip* vip = snapshot_.FindVip(key.destination_address());
      if (vip == nullptr) return MatchFromBackend(i);
      if (IsIcmp(key) || burst.packets[i].is_later_fragment) return MatchUnusual(i, *vip);
      last_ = &key;
      last_service_ = vip->Find(key.protocol, NetworkOrder(key.destination_port));
    }
    if (IsRefused(i)) return false;
    burst.services[i] = last_service_;
    __builtin_prefetch(last_service_);
    if (last_service_ == nullptr) return burst.Drop(i, Reason::kPortNotServed);
    burst.directions[i] = Direction::kToBackend;
    return Hash(i);
  }

 private:
  // For whom it comes from.
  bool IsRefused(uint8_t i) {
    const IpAddress source = burst_.keys[i].source_address();
    if (source == burst_.keys[i].destination_address()) return !burst_.Drop(i, Reason::kMalformed);
    return snapshot_.IsDenied(source) && !burst_.Drop(i, Reason::kAccessDenied);
  }

  bool Hash(uint8_t i) {
    const FlowHash hash = HashFlow(burst_.keys[i], seed_);
    burst_.hashes[i] = hash;
    burst_.to_choose |= PacketSet{1} << i;
    flows_.Prefetch(hash);
    return true;
  }

  // ICMP, and what has no ports.
  bool MatchUnusual(uint8_t i, const Vip& vip) {
    burst_.directions[i] = Direction::kToBackend;
    if (IsIcmp(burst_.keys[i])) return MatchIcmpToVip(i, vip);
    return !IsRefused(i);
  }

  bool MatchIcmpToVip(uint8_t i, const Vip& vip) {
    const ParsedPacket& packet = burst_.packets[i];
    const FlowKey& key = burst_.keys[i];
    const bool is_error = IsIcmpError(key, packet.icmp_type) && !packet.is_later_fragment;
    Quote quote;
    if (HasWrongIcmpChecksum(burst_.ip(i), packet, key) ||
        (is_error && !ReadQuote(burst_.ip(i), packet, key.version, quote))) {
      return burst_.Drop(i, Reason::kMalformed);
    }
    if (IsRefused(i)) return false;
    if (packet.is_later_fragment) return true;
    if (IsEchoRequest(packet, key)) {
      burst_.directions[i] = Direction::kToBalancer;
      return true;
    }
    return is_error ? MatchErrorToVip(i, vip, quote) : MatchService(i, vip);
  }

  // Only a whole one can be answered.
  static bool IsEchoRequest(const ParsedPacket& packet, const FlowKey& key) {
    return !packet.is_fragment &&
           packet.icmp_type == (key.version == 4 ? kIcmpEcho : kIcmpv6Echo);
  }

  // Somebody says that an answer from the VIP did not arrive.
  bool MatchErrorToVip(uint8_t i, const Vip& vip, const Quote& quote) {
    if (quote.key.source_address() != burst_.keys[i].destination_address() || !quote.is_named) {
      return burst_.Drop(i, Reason::kPortNotServed);
    }
    burst_.quotes[i] = quote.offset;
    burst_.keys[i] = Reversed(quote.key);
    return MatchService(i, vip);
  }

  bool MatchService(uint8_t i, const Vip& vip) {
    const FlowKey& key = burst_.keys[i];
    burst_.services[i] = vip.Find(key.protocol, NetworkOrder(key.destination_port));
    if (burst_.services[i] == nullptr) return burst_.Drop(i, Reason::kPortNotServed);
    return Hash(i);
  }

  // Not to a VIP: the answer of a nat backend, or not ours.
  bool MatchFromBackend(uint8_t i) {
    const ParsedPacket& packet = burst_.packets[i];
    const FlowKey& key = burst_.keys[i];
    burst_.directions[i] = Direction::kFromBackend;
    // Neighbour discovery, DHCP, routing protocols: no answers to a client.
    const IpAddress to = key.destination_address();
    if (to.is_multicast() || to.is_link_local() || (to.is_v4() && to.v4_word() == 0xffffffff)) {
      return burst_.Finish(i, Verdict::kPunt);
    }
    if (IsIcmpError(key, packet.icmp_type) && !packet.is_later_fragment) {
      return MatchErrorAboutOurs(i);
    }
    const IpAddress from = key.source_address();
    if (!snapshot_.IsNatBackend(from) || snapshot_.IsOwn(to)) {
      return burst_.Finish(i, Verdict::kPunt);
    }
    if (packet.is_later_fragment) return true;
    return Answer(i, snapshot_.FindNatBackend(from, key.protocol, NetworkOrder(key.source_port)));
  }

  // Somebody says that a packet did not arrive which we sent: one in a tunnel, or one to a nat
  // backend, whose client is told.
  bool MatchErrorAboutOurs(uint8_t i) {
    const ParsedPacket& packet = burst_.packets[i];
    Quote quote;
    const FlowKey& key = burst_.keys[i];
    if (!ReadQuote(burst_.ip(i), packet, key.version, quote)) {
      return burst_.Finish(i, Verdict::kPunt);
    }
    const IpAddress to = key.destination_address();
    const IpAddress quoted_to = quote.key.destination_address();
    // Who sent what is quoted is told, and nobody else.
    if (quote.key.source_address() != to) return burst_.Finish(i, Verdict::kPunt);
    if (snapshot_.IsTunnelSource(to) && snapshot_.IsTunnelEnd(quoted_to) &&
        IsOuter(quote.key) && !packet.is_fragment) {
      burst_.directions[i] = Direction::kAboutTunnel;
      burst_.quotes[i] = quote.offset;
      return true;
    }
    if (snapshot_.IsOwn(to) || !quote.is_named) {
      return burst_.Finish(i, Verdict::kPunt);
    }
    burst_.quotes[i] = quote.offset;
    return Answer(i, snapshot_.FindNatBackend(quoted_to, quote.key.protocol,
                                              NetworkOrder(quote.key.destination_port)));
  }

  bool Answer(uint8_t i, const Backend* backend) {
    if (backend == nullptr) return burst_.Finish(i, Verdict::kPunt);
    burst_.backends[i] = backend;
    burst_.services[i] = snapshot_.FindService(backend->service);
    burst_.lookups[i] = FlowLookup::kHit;
    return true;
  }

  const Snapshot& snapshot_;
  const FlowTable& flows_;
  Burst& burst_;
  const uint64_t seed_;
  // Of the last packet with ports to a VIP.
  static constexpr FlowKey kNoKey = {};
  const FlowKey* last_ = &kNoKey;
  const Service* last_service_ = nullptr;
};

}  // namespace

void Match(const Snapshot& snapshot, const FlowTable& flows, Burst& burst) {
  if (snapshot.has_many_vips()) {
    burst.ForUndecided([&](uint8_t i) {
      snapshot.PrefetchVip(burst.keys[i].destination_address());
      return true;
    });
  }
  Matcher matcher(snapshot, flows, burst);
  burst.ForUndecided([&](uint8_t i) { return matcher.Match(i); });
}

}  // namespace guideway
