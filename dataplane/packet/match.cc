#include "dataplane/packet/match.h"

#include "dataplane/packet/parse.h"
#include "dataplane/packet/stages.h"
#include "maglev/headers.h"

namespace guideway {

// The packet that an ICMP error quotes.
struct Matcher::Quote {
  uint16_t offset = 0;  // from the IP header of the error
  FlowKey key;
  bool is_named = true;  // its connection can be told; not so of a later fragment without ports
};

// False if it is cut short before its ports, or does not look like a packet of that family. One of
// a protocol without ports has ports 0.
bool Matcher::ReadQuote(const uint8_t* ip, const ParsedPacket& packet, uint8_t version,
                        Quote& quote) {
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

namespace {

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

// Only a whole one can be answered.
bool IsEchoRequest(const ParsedPacket& packet, const FlowKey& key) {
  return !packet.is_fragment && packet.icmp_type == (key.version == 4 ? kIcmpEcho : kIcmpv6Echo);
}

}  // namespace

bool Matcher::Match(Packet& p) {
  const FlowKey& key = p.key;
  // Often the service of the packet before.
  if (!key.IsToTheSameAs(*last_) || p.parsed.is_later_fragment) {
    const Vip* vip = snapshot_.vips().Find(key.destination_address());
    if (vip == nullptr) return MatchFromBackend(p);
    if (IsIcmp(key) || p.parsed.is_later_fragment) return MatchUnusual(p, *vip);
    last_ = &key;
    last_served_ = vip->Find(key.protocol, NetworkOrder(key.destination_port));
  }
  if (IsRefused(p)) return false;
  return GiveTo(p, last_served_);
}

// For whom it comes from.
bool Matcher::IsRefused(Packet& p) const {
  if (p.key.HasOneAddress()) return !p.Drop(Reason::kMalformed);
  // Not to put the address together for nothing.
  return has_access_ && snapshot_.IsDenied(p.key.source_address()) &&
         !p.Drop(Reason::kAccessDenied);
}

bool Matcher::GiveTo(Packet& p, const Vip::Served* served) const {
  if (served == nullptr) return p.Drop(Reason::kPortNotServed);
  p.service = static_cast<ServiceId>(served->id);
  p.to_choose = true;
  return true;
}

// ICMP, and what has no ports.
[[gnu::noinline]] bool Matcher::MatchUnusual(Packet& p, const Vip& vip) const {
  if (IsIcmp(p.key)) return MatchIcmpToVip(p, vip);
  return !IsRefused(p);
}

bool Matcher::MatchIcmpToVip(Packet& p, const Vip& vip) const {
  const ParsedPacket& packet = p.parsed;
  const FlowKey& key = p.key;
  const bool is_error = IsIcmpError(key, packet.icmp_type) && !packet.is_later_fragment;
  Quote quote;
  if (HasWrongIcmpChecksum(p.ip(), packet, key) ||
      (is_error && !ReadQuote(p.ip(), packet, key.version, quote))) {
    return p.Drop(Reason::kMalformed);
  }
  if (IsRefused(p)) return false;
  if (packet.is_later_fragment) return true;
  if (IsEchoRequest(packet, key)) {
    p.direction = Direction::kToBalancer;
    return true;
  }
  return is_error ? MatchErrorToVip(p, vip, quote) : MatchService(p, vip);
}

// Somebody says that an answer from the VIP did not arrive.
bool Matcher::MatchErrorToVip(Packet& p, const Vip& vip, const Quote& quote) const {
  if (quote.key.source_address() != p.key.destination_address() || !quote.is_named) {
    return p.Drop(Reason::kPortNotServed);
  }
  p.quote = quote.offset;
  p.key = Reversed(quote.key);
  return MatchService(p, vip);
}

// Of ICMP, which Parse did not hash.
bool Matcher::MatchService(Packet& p, const Vip& vip) const {
  const FlowKey& key = p.key;
  p.hash = snapshot_.flow_hasher().Hash(key);
  return GiveTo(p, vip.Find(key.protocol, NetworkOrder(key.destination_port)));
}

// Not to a VIP: the answer of a nat backend, or not ours.
[[gnu::noinline]] bool Matcher::MatchFromBackend(Packet& p) const {
  const ParsedPacket& packet = p.parsed;
  const FlowKey& key = p.key;
  p.direction = Direction::kFromBackend;
  // Neighbour discovery, DHCP, routing protocols: no answers to a client.
  const IpAddress to = key.destination_address();
  if (to.is_multicast() || to.is_link_local() || (to.is_v4() && to.v4_word() == 0xffffffff)) {
    return p.Finish(Verdict::kPunt);
  }
  if (IsIcmpError(key, packet.icmp_type) && !packet.is_later_fragment) {
    return MatchErrorAboutOurs(p);
  }
  if (snapshot_.IsOwn(to)) return p.Finish(Verdict::kPunt);
  const IpAddress from = key.source_address();
  if (packet.is_later_fragment) {
    return snapshot_.IsNatBackend(from) || p.Finish(Verdict::kPunt);
  }
  return Answer(p, snapshot_.FindNatBackend(from, key.protocol, NetworkOrder(key.source_port)));
}

// Somebody says that a packet did not arrive which we sent: one in a tunnel, or one to a nat
// backend, whose client is told.
bool Matcher::MatchErrorAboutOurs(Packet& p) const {
  const ParsedPacket& packet = p.parsed;
  Quote quote;
  const FlowKey& key = p.key;
  if (!ReadQuote(p.ip(), packet, key.version, quote)) {
    return p.Finish(Verdict::kPunt);
  }
  const IpAddress to = key.destination_address();
  const IpAddress quoted_to = quote.key.destination_address();
  // Who sent what is quoted is told, and nobody else.
  if (quote.key.source_address() != to) return p.Finish(Verdict::kPunt);
  if (snapshot_.IsTunnelSource(to) && snapshot_.IsTunnelEnd(quoted_to) && IsOuter(quote.key) &&
      !packet.is_fragment) {
    p.direction = Direction::kAboutTunnel;
    p.quote = quote.offset;
    return true;
  }
  if (snapshot_.IsOwn(to) || !quote.is_named) {
    return p.Finish(Verdict::kPunt);
  }
  p.quote = quote.offset;
  return Answer(p, snapshot_.FindNatBackend(quoted_to, quote.key.protocol,
                                            NetworkOrder(quote.key.destination_port)));
}

bool Matcher::Answer(Packet& p, const Backend* backend) const {
  if (backend == nullptr) return p.Finish(Verdict::kPunt);
  p.backend = backend->id;
  p.service = backend->service;
  p.lookup = FlowLookup::kHit;
  return true;
}

void Match(const Snapshot& snapshot, Burst& burst) {
  if (burst.all_known) return;
  Matcher matcher(snapshot);
  for (Packet& p : burst.all()) {
    if (p.undecided && !p.entry) p.undecided = matcher.Match(p);
  }
}

}  // namespace guideway
