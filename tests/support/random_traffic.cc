#include "tests/support/random_traffic.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <optional>

#include "absl/strings/str_cat.h"
#include "dataplane/packet/pipeline.h"
#include "maglev/quic_lb.h"
#include "tests/support/plain_bytes.h"
#include "tests/support/quic_lb_encoder.h"

namespace guideway::testing {
namespace {

constexpr uint64_t kSecondNs = 1000000000;
constexpr uint64_t kStart = 1000 * kSecondNs;
constexpr uint64_t kSeed = 4711;

IpAddress Address(const std::string& text) { return IpAddress::Parse(text).value(); }
Prefix PrefixOf(const std::string& text) { return Prefix::Parse(text).value(); }

// --- configurations ---

struct BackendPlan {
  std::string name, address;
  uint16_t port = 0;
  BackendId id = 0;
  BackendState state = BackendState::kUp;
  uint32_t weight = 100;
  int interface = 0;  // -1: no next hop
  bool is_there = true;
};

struct ServicePlan {
  std::string name;
  std::vector<std::string> vips;
  Protocol protocol;
  std::vector<PortRange> ports;
  Forwarding forwarding;
  std::vector<BackendPlan> backends;
  uint32_t new_flows_per_second = 0;
  bool has_quic = false;
  Affinity affinity = {};
  bool is_there = true;
};

const std::vector<QuicLb::Config>& QuicConfigs() {
  static const auto& configs =
      *new std::vector<QuicLb::Config>{{.id = 1, .server_id_length = 4, .nonce_length = 6},
                                       {.id = 2,
                                        .server_id_length = 4,
                                        .nonce_length = 12,
                                        .key = std::array<uint8_t, 16>{1, 2, 3, 4, 5, 6, 7, 8, 9}}};
  return configs;
}
std::string QuicServerId(size_t backend) {
  return std::string("\xc4\x60\x5e", 3) + static_cast<char>(backend);
}

// All that a Snapshot is made from, as it is to be changed step by step.
class Plan {
 public:
  explicit Plan(const Choose& choose) : choose_(choose) {
    const auto tunnel = [&] {
      return std::array{Forwarding::kIpip, Forwarding::kGre, Forwarding::kGue,
                        Forwarding::kVxlan}[choose_(4)];
    };
    const PortRange all = {0, 65535};
    Add("web", {"198.51.100.10", "2001:db8:100::10"}, Protocol::kTcp, {{80, 80}, {443, 443}},
        tunnel(), {"10.0.1.11", "10.0.1.12", "2001:db8:2::13", "2001:db8:2::14"});
    Add("alt", {"198.51.100.10"}, Protocol::kTcp, {{8000, 8999}}, tunnel(),
        {"10.0.1.11", "2001:db8:2::13"});
    services_.back().new_flows_per_second = 1 + choose_(3);
    Add("h3", {"198.51.100.10", "2001:db8:100::10"}, Protocol::kUdp, {{443, 443}}, tunnel(),
        {"10.0.1.11", "10.0.1.12", "2001:db8:2::13"});
    services_.back().has_quic = true;
    Add("dns", {"198.51.100.53", "2001:db8:100::53"}, Protocol::kUdp, {{53, 53}},
        Forwarding::kDirect, {"192.0.2.61", "2001:db8:2::61"});
    Add("pg", {"10.9.0.5"}, Protocol::kTcp, {{5432, 5432}}, Forwarding::kNat,
        {"10.0.3.21", "10.0.3.22"});
    services_.back().backends[0].port = 5432;
    services_.back().backends[1].port = 5433;
    Add("sip", {"10.9.0.6"}, Protocol::kUdp, {{1000, 1999}}, Forwarding::kNat, {"10.0.3.21"});
    Add("pg6", {"2001:db8:100::5"}, Protocol::kTcp, {{5432, 5432}}, Forwarding::kNat,
        {"2001:db8:3::21"});
    services_.back().backends[0].port = static_cast<uint16_t>(choose_(2) * 6000);
    Add("dns6", {"2001:db8:100::6"}, Protocol::kUdp, {{53, 53}}, Forwarding::kNat,
        {"2001:db8:3::22"});
    services_.back().backends[0].port = 1053;
    Add("all-nat", {"10.9.0.7"}, Protocol::kAny, {all}, Forwarding::kNat, {"10.0.3.41"});
    Add("cdn", {"198.51.100.96/28", "2001:db8:100:1::/64"}, Protocol::kAny, {all}, tunnel(),
        {"10.1.0.11", "2001:db8:2::13", "10.1.0.12"});
    Add("inner", {"198.51.100.104/30", "2001:db8:100:1::/96"}, Protocol::kTcp, {{80, 80}}, tunnel(),
        {"10.1.0.21", "2001:db8:2::23"});
    for (ServicePlan& service : services_) {
      if (choose_(5) == 0) service.new_flows_per_second = 1 + choose_(4);
      if (choose_(6) == 0) {
        service.affinity = {.to_client = true,
                            .ipv4_bits = static_cast<uint8_t>(choose_(2) == 0 ? 32 : 24),
                            .ipv6_bits = static_cast<uint8_t>(choose_(2) == 0 ? 128 : 64)};
      }
      for (BackendPlan& backend : service.backends) {
        backend.interface = static_cast<int>(choose_(12)) - 1;
        if (backend.interface > 2) backend.interface %= 3;
        if (choose_(8) == 0) backend.state = BackendState::kDown;
      }
    }
    constexpr std::array kMtus = {1500, 1500, 9000, 1400, 1280, 600, 577};
    for (uint16_t& mtu : mtus_) mtu = static_cast<uint16_t>(kMtus[choose_(kMtus.size())]);
    tunnel_source_v4_ = choose_(2) == 0 ? "192.0.2.1" : "172.16.0.0/13";
    tunnel_source_v6_ = choose_(2) == 0 ? "2001:db8:1::1" : "100::/67";
    replies_per_second_ = choose_(3) == 0 ? 1 + choose_(3) : 1000000;
    routes_everywhere_ = choose_(4) != 0;
    has_access_ = choose_(3) != 0;
  }

  std::vector<ServicePlan>& services() { return services_; }
  void LiftReplyLimit() { replies_per_second_ = 1000000; }
  uint16_t mtu(size_t i) const { return mtus_[i % mtus_.size()]; }

  // One change, of those that happen while packets flow.
  void Change() {
    ServicePlan& service = services_[choose_(static_cast<uint32_t>(services_.size()))];
    BackendPlan& backend =
        service.backends[choose_(static_cast<uint32_t>(service.backends.size()))];
    switch (choose_(10)) {
      case 0:
      case 1:
      case 2: backend.state = BackendState::kUp; break;
      case 3: backend.state = BackendState::kDrain; break;
      case 4: backend.state = BackendState::kDown; break;
      case 5: backend.is_there = !backend.is_there; break;
      case 6: backend.interface = static_cast<int>(choose_(4)) - 1; break;
      case 7: has_access_ = !has_access_; break;
      case 8: service.is_there = choose_(3) != 0; break;
      case 9: backend.weight = 1 + choose_(200); break;
    }
  }

  std::shared_ptr<const Snapshot> Make() {
    SnapshotParts parts = {.version = ++version_,
                           .hash_seed = kSeed,
                           .timeouts = {.tcp_handshake_s = 10,
                                        .tcp_established_s = 120,
                                        .tcp_closing_s = 15,
                                        .udp_s = 30},
                           .replies_per_second = replies_per_second_};
    for (size_t s = 0; s < services_.size(); ++s) {
      if (services_[s].is_there) parts.services.push_back(Make(s));
    }
    std::vector<std::pair<Prefix, NextHop>> routes = {{PrefixOf("198.18.0.0/15"), Hop(1)},
                                                      {PrefixOf("2001:db8:c::/48"), Hop(2)}};
    if (routes_everywhere_) {
      routes.emplace_back(PrefixOf("0.0.0.0/0"), Hop(0));
      routes.emplace_back(PrefixOf("::/0"), Hop(0));
    }
    parts.routes = std::make_shared<const Routes>(routes);
    if (has_access_) {
      const auto deny = static_cast<uint32_t>(Access::kDeny);
      parts.access = std::make_shared<const PrefixMap>(
          PrefixMap::Build({{PrefixOf("203.0.113.0/24"), deny},
                            {PrefixOf("203.0.113.128/25"), static_cast<uint32_t>(Access::kAllow)},
                            {PrefixOf("2001:db8:bad::/48"), deny}})
              .value());
    }
    for (const char* own : {"192.0.2.1", "10.0.3.1", "2001:db8:1::1"}) {
      parts.own_addresses.push_back(Address(own));
    }
    return std::make_shared<const Snapshot>(std::move(parts));
  }

 private:
  void Add(std::string name, std::vector<std::string> vips, Protocol protocol,
           std::vector<PortRange> ports, Forwarding forwarding,
           const std::vector<std::string>& addresses) {
    ServicePlan service = {.name = name,
                           .vips = std::move(vips),
                           .protocol = protocol,
                           .ports = std::move(ports),
                           .forwarding = forwarding};
    for (const std::string& address : addresses) {
      service.backends.push_back({.name = absl::StrCat(name, "-", service.backends.size() + 1),
                                  .address = address,
                                  .id = next_id_++});
    }
    services_.push_back(std::move(service));
  }

  NextHop Hop(size_t interface) const {
    const uint8_t n = static_cast<uint8_t>(interface);
    return {.interface = static_cast<uint16_t>(interface),
            .mtu = mtus_[interface],
            .destination = {{2, 0, 0, 0, n, 0xfe}},
            .source = {{2, 0, 0, 0, n, 1}}};
  }

  std::shared_ptr<const Service> Make(size_t index) const {
    const ServicePlan& from = services_[index];
    auto service = std::make_shared<Service>();
    service->name = from.name;
    service->id = static_cast<ServiceId>(index);
    for (const std::string& vip : from.vips) service->vips.push_back(PrefixOf(vip));
    service->protocol = from.protocol;
    service->ports = from.ports;
    service->forwarding = from.forwarding;
    if (from.forwarding == Forwarding::kGue) service->tunnel.port = 6080;
    if (from.forwarding == Forwarding::kVxlan) {
      service->tunnel = {.port = 4789, .vni = 0x123456, .inner_mac = {{2, 0, 0, 0, 0, 0x77}}};
    }
    service->new_flows_per_second = from.new_flows_per_second;
    service->affinity = from.affinity;
    std::vector<PoolMember> pool;
    std::vector<Share> shares;
    std::vector<std::pair<std::string, uint32_t>> server_ids;
    for (size_t i = 0; i < from.backends.size(); ++i) {
      const BackendPlan& b = from.backends[i];
      if (!b.is_there) continue;
      server_ids.emplace_back(QuicServerId(i), static_cast<uint32_t>(service->backends.size()));
      Backend backend;
      backend.name = b.name;
      backend.id = b.id;
      backend.service = service->id;
      backend.weight = b.weight;
      backend.state = b.state;
      backend.address = Address(b.address);
      backend.port = b.port;
      backend.tunnel_source =
          PrefixOf(backend.address.is_v4() ? tunnel_source_v4_ : tunnel_source_v6_);
      if (!backend.tunnel_source.is_host() && from.forwarding != Forwarding::kIpip &&
          from.forwarding != Forwarding::kGre) {
        backend.tunnel_source = PrefixOf(backend.address.is_v4() ? "192.0.2.1" : "2001:db8:1::1");
      }
      if (b.interface >= 0) backend.next_hop = Hop(static_cast<size_t>(b.interface));
      service->backends.push_back(backend);
      pool.push_back({b.name, b.weight});
      shares.push_back(b.state == BackendState::kUp ? kFullShare : kDown);
    }
    const auto table =
        std::make_shared<const LookupTable>(LookupTable::Build(pool, 61, kSeed).value());
    service->pools.push_back({.table = table, .assignment = table->Assign(shares)});
    if (from.has_quic) {
      service->quic =
          std::make_shared<const QuicLb>(QuicLb::Build(QuicConfigs(), server_ids).value());
    }
    return service;
  }

  const Choose& choose_;
  std::vector<ServicePlan> services_;
  BackendId next_id_ = 5;
  uint64_t version_ = 0;
  std::array<uint16_t, 3> mtus_;
  std::string tunnel_source_v4_, tunnel_source_v6_;
  uint32_t replies_per_second_;
  bool routes_everywhere_, has_access_;
};

// --- packets ---

// As the generator reads what it made itself, or was sent.
struct Read {
  size_t ip = 0;         // offset of the IP header in the frame
  size_t transport = 0;  // … of what is behind it
  bool is_v4 = true;
  uint8_t protocol = 0;
};
std::optional<Read> ReadFrame(const Bytes& frame) {
  Read read = {.ip = 14};
  while (read.ip <= 22 && frame.size() >= read.ip + 20) {
    const uint32_t type = Get16(frame, read.ip - 2);
    if (type == 0x0800 || type == 0x86dd) {
      read.is_v4 = type == 0x0800;
      if (!read.is_v4 && frame.size() < read.ip + 40) return std::nullopt;
      read.transport = read.ip + (read.is_v4 ? (frame[read.ip] & 15) * 4u : 40);
      read.protocol = frame[read.ip + (read.is_v4 ? 9 : 6)];
      return read;
    }
    read.ip += 4;
  }
  return std::nullopt;
}

// What the other end would send: addresses and ports exchanged. No checksum changes by it.
Bytes Reversed(Bytes packet) {
  const bool is_v4 = packet[0] >> 4 == 4;
  const size_t size = is_v4 ? 4 : 16;
  const size_t at = is_v4 ? 12 : 8;
  if (packet.size() < at + 2 * size) return packet;
  for (size_t i = at; i < at + size; ++i) std::swap(packet[i], packet[i + size]);
  const uint8_t protocol = packet[is_v4 ? 9 : 6];
  const size_t transport = is_v4 ? (packet[0] & 15) * 4u : 40;
  const bool is_later = is_v4 && (Get16(packet, 6) & 0x1fff) != 0;
  if ((protocol == 6 || protocol == 17) && packet.size() >= transport + 4 && !is_later) {
    std::swap(packet[transport], packet[transport + 2]);
    std::swap(packet[transport + 1], packet[transport + 3]);
  }
  return packet;
}

void FixIpv4Checksum(Bytes& packet) {
  if (packet.size() < 20 || packet[0] >> 4 != 4) return;
  const size_t header = std::min<size_t>((packet[0] & 15) * 4u, packet.size());
  if (header < 20) return;
  Put16(packet, 10, 0);
  Put16(packet, 10, ChecksumOfSum(Sum(Part(packet, 0, header))));
}

class Generator {
 public:
  Generator(const Choose& choose, const TrafficOptions& options, Plan& plan)
      : choose_(choose), options_(options), plan_(plan) {}

  Batch::Packet Next() {
    Bytes packet;
    is_mutated_ = false;
    if (!pending_.empty() && choose_(2) == 0) {
      packet = TakePending();
    } else {
      switch (choose_(16)) {
        case 0:
        case 1: packet = Echo(); break;
        case 2:
        case 3: packet = ErrorAboutOurs(); break;
        case 4:
        case 5: packet = ErrorAboutAnswer(); break;
        case 6:
        case 7:
        case 8: packet = Answer(); break;
        case 9: packet = Again(); break;
        case 10: return {Odd(), false};
        default: packet = FromClient(); break;
      }
      const bool is_sound = packet.size() > 200 && (packet[0] == 0x45 || packet[0] >> 4 == 6);
      if (is_sound && packet.size() < 4000 && choose_(4) == 0) {
        Cut(packet);
        packet = TakePending();
      }
    }
    if (choose_(7) == 0) Mutate(packet);
    Bytes frame = Framed(packet);
    if (is_mutated_ && choose_(3) == 0) {
      frame.resize(choose_(static_cast<uint32_t>(frame.size()) + 1));
    }
    if (choose_(50) == 0) {
      frame = Bytes(choose_(100));
      for (uint8_t& byte : frame) byte = static_cast<uint8_t>(choose_(256));
    }
    received_.push_back(frame);
    if (received_.size() > 24) received_.pop_front();
    return {frame, !is_mutated_ && choose_(8) == 0};
  }

  void Sent(const Bytes& frame) {
    sent_.push_back(frame);
    if (sent_.size() > 24) sent_.pop_front();
  }

 private:
  template <typename T>
  const T& OneOf(const std::vector<T>& all) {
    return all[choose_(static_cast<uint32_t>(all.size()))];
  }

  IpAddress Client(bool is_v4) {
    static const std::vector<std::string> v4 = {"198.18.0.1", "198.18.0.2",  "192.0.2.200",
                                                "198.18.0.3", "203.0.113.5", "203.0.113.200"};
    static const std::vector<std::string> v6 = {"2001:db8:c::1", "2001:db8:c::2", "2001:db8:c:1::1",
                                                "2001:db8:d::1", "2001:db8:bad::1"};
    return Address(OneOf(is_v4 ? v4 : v6));
  }

  // Mostly one that is served.
  struct Target {
    IpAddress address;
    uint16_t port;
    uint8_t protocol;
  };
  Target PickTarget() {
    if (choose_(30) == 0) {
      static const std::vector<std::string> others = {"198.51.100.99", "192.0.2.77", "10.0.3.21",
                                                      "2001:db8:ffff::1", "192.0.2.1"};
      return {Address(OneOf(others)), 80, static_cast<uint8_t>(choose_(2) == 0 ? 6 : 17)};
    }
    const ServicePlan& service = OneOf(plan_.services());
    const Prefix vip = PrefixOf(OneOf(service.vips));
    Bytes address = BytesOf(vip.address);
    if (!vip.is_host()) address.back() |= static_cast<uint8_t>(choose_(16));
    Target target = {
        vip.address.is_v4() ? IpAddress::V4(address.data()) : IpAddress::V6(address.data()),
        service.ports.front().first, static_cast<uint8_t>(service.protocol)};
    if (choose_(4) == 0) target.port = service.ports.back().last;
    if (target.protocol == 0) {
      static const std::vector<uint8_t> protocols = {6, 6, 17, 17, 47, 50, 1, 58, 2};
      target.protocol = OneOf(protocols);
      static const std::vector<uint16_t> ports = {80, 443, 0, 5000};
      target.port = OneOf(ports);
    }
    if (choose_(25) == 0) target.port = 81;
    if (choose_(40) == 0) target.protocol = static_cast<uint8_t>(choose_(2) == 0 ? 17 : 6);
    return target;
  }

  Bytes Payload(size_t size) {
    Bytes payload(size);
    const uint8_t first = static_cast<uint8_t>(choose_(256));
    const uint8_t step = static_cast<uint8_t>(choose_(4));
    for (size_t i = 0; i < size; ++i) payload[i] = static_cast<uint8_t>(first + i * step);
    return payload;
  }
  // Small ones, and those around what just fits.
  size_t PayloadSize() {
    switch (choose_(8)) {
      case 0: return 0;
      case 1: return choose_(32);
      case 2: return choose_(600);
      case 3:
      case 4: return std::max<size_t>(plan_.mtu(choose_(3)), 140) - choose_(140);
      case 5: return 1280 - 40 - 8 - choose_(24);
      case 6:
        // Now and then the largest that there are; rarely, since a burst has room for the fragments
        // of a few of them.
        if (choose_(60) == 0) return 65380 + choose_(116);
        return choose_(12) == 0 ? 2000 + choose_(8000) : choose_(1500);
      default: return choose_(100);
    }
  }

  Bytes Transport(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
                  uint16_t source_port, uint16_t port) {
    Bytes t;
    size_t checksum = 0;
    const Bytes payload = Payload(PayloadSize());
    if (protocol == 6) {
      static const std::vector<uint8_t> flags = {2, 2, 2, 16, 16, 16, 24, 18, 17, 1, 4, 20, 0};
      const uint32_t words = choose_(8) == 0 ? 6 + choose_(4) : 5;
      Add16(t, source_port);
      Add16(t, port);
      Add32(t, choose_(1000));
      Add32(t, choose_(1000));
      Add8(t, words << 4);
      Add8(t, OneOf(flags));
      Add16(t, 1000);
      Add32(t, 0);
      t.resize(words * 4, 1);
      Add(t, payload);
      checksum = 16;
    } else if (protocol == 17) {
      Bytes data = payload;
      if (choose_(3) == 0) data = Quic();
      Add16(t, source_port);
      Add16(t, port);
      Add16(t, static_cast<uint32_t>(8 + data.size()));
      Add16(t, 0);
      Add(t, data);
      checksum = choose_(8) == 0 ? 0 : 6;
      if (choose_(12) == 0) Add(t, Payload(choose_(24)));  // behind what UDP says
    } else {
      t = payload;
      t.resize(std::max<size_t>(t.size(), 8));
      if (protocol == 1 || protocol == 58) {
        static const std::vector<uint8_t> types = {0, 13, 5, 129, 135, 1, 3};
        t[0] = OneOf(types);
        Put16(t, 2, 0);
        checksum = 2;
      }
    }
    if (checksum == 0) return t;
    uint64_t sum = Sum(t);
    if (protocol != 1) sum += PseudoHeader(source, destination, protocol, t.size());
    uint16_t value = ChecksumOfSum(sum);
    if (protocol == 17 && value == 0) value = 0xffff;
    if (choose_(25) == 0) value = static_cast<uint16_t>(choose_(65536));
    Put16(t, checksum, value);
    return t;
  }

  Bytes Quic() {
    const QuicLb::Config& config = OneOf(QuicConfigs());
    const std::string nonce(config.nonce_length, static_cast<char>(choose_(3)));
    const QuicBytes id = EncodeQuicLb(config, QuicServerId(choose_(4)), nonce);
    const QuicBytes packet =
        choose_(2) == 0 ? QuicShortPacket(id, choose_(30)) : QuicLongPacket(id, choose_(1200));
    return Bytes(packet.begin(), packet.end());
  }

  Bytes Ip(const IpAddress& source, const IpAddress& destination, uint8_t protocol,
           const Bytes& payload) {
    static const std::vector<uint8_t> classes = {0, 0, 0x2e << 2, 1, 2, 3, 0xff};
    const uint8_t traffic_class = OneOf(classes);
    Bytes b;
    if (source.is_v4()) {
      const Bytes options = choose_(12) == 0 ? Options() : Bytes();
      Add8(b, 0x40 | (5 + static_cast<uint32_t>(options.size()) / 4));
      Add8(b, traffic_class);
      Add16(b, static_cast<uint32_t>(20 + options.size() + payload.size()));
      Add16(b, Identification());
      Add16(b, choose_(2) == 0 ? 0x4000 : 0);
      Add8(b, 57);
      Add8(b, protocol);
      Add16(b, 0);
      Add(b, BytesOf(source));
      Add(b, BytesOf(destination));
      Add(b, options);
      FixIpv4Checksum(b);
      Add(b, payload);
      return b;
    }
    uint8_t next = protocol;
    Bytes extensions;
    if (choose_(6) == 0) {
      static const std::vector<uint8_t> kinds = {0, 43, 44, 51, 60, 60, 135};
      for (uint32_t n = choose_(6) == 0 ? 7 + choose_(3) : 1 + choose_(2); n > 0; --n) {
        const uint8_t kind = OneOf(kinds);
        Bytes header(kind == 44 ? 8 : 8 + 8 * choose_(2));
        header[0] = next;
        if (kind != 44) {
          header[1] =
              static_cast<uint8_t>(kind == 51 ? header.size() / 4 - 2 : header.size() / 8 - 1);
        } else if (choose_(3) == 0) {
          Put16(header, 2, choose_(3) == 0 ? choose_(65536) : choose_(2));
          Put16(header, 6, Identification());
        }
        Add(header, extensions);
        extensions = header;
        next = kind;
      }
    }
    Add32(b, 6u << 28 | static_cast<uint32_t>(traffic_class) << 20 | choose_(3));
    Add16(b, static_cast<uint32_t>(extensions.size() + payload.size()));
    Add8(b, next);
    Add8(b, 57);
    Add(b, BytesOf(source));
    Add(b, BytesOf(destination));
    Add(b, extensions);
    Add(b, payload);
    return b;
  }

  Bytes Options() {
    static const std::vector<Bytes> all = {
        {1, 1, 1, 0},
        {7, 7, 4, 0, 0, 0, 0, 0},                    // record route: for the first fragment alone
        {0x83, 7, 4, 1, 2, 3, 4, 0},                 // loose source route: for all
        {1, 0x88, 4, 1, 2, 7, 3, 4, 0x94, 4, 0, 0},  // two for all around one that is not
        {0x88, 0, 1, 1},                             // of no length
        {0x88, 40, 1, 1},                            // longer than the header
        {7, 3, 4, 0x94}};                            // cut off
    return OneOf(all);
  }

  Bytes FromClient() {
    const Target to = PickTarget();
    IpAddress source = Client(to.address.is_v4());
    if (choose_(60) == 0) source = to.address;
    if (choose_(60) == 0) source = Address(to.address.is_v4() ? "224.0.0.1" : "ff02::1");
    if (choose_(60) == 0 && to.address.is_v4()) source = Address("255.255.255.255");
    const uint16_t port = static_cast<uint16_t>(40000 + choose_(3));
    return Ip(source, to.address, to.protocol,
              Transport(source, to.address, to.protocol, port, to.port));
  }

  Bytes Icmp(const IpAddress& source, const IpAddress& destination, uint8_t type, uint8_t code,
             uint32_t rest, const Bytes& data) {
    Bytes icmp = {type, code, 0, 0};
    Add32(icmp, rest);
    Add(icmp, data);
    uint64_t sum = Sum(icmp);
    if (source.is_v6()) sum += PseudoHeader(source, destination, 58, icmp.size());
    Put16(icmp, 2, ChecksumOfSum(sum));
    if (choose_(15) == 0) icmp[2] ^= 0x10;
    return Ip(source, destination, source.is_v4() ? 1 : 58, icmp);
  }

  Bytes Echo() {
    const IpAddress to = PickTarget().address;
    const Bytes data = choose_(4) == 0 ? Bytes(choose_(40)) : Payload(PayloadSize());
    return Icmp(Client(to.is_v4()), to, to.is_v4() ? 8 : 128, 0, choose_(2) * choose_(70000), data);
  }

  // An ICMP error that quotes the packet, or its beginning, from somewhere to somewhere.
  Bytes Error(Bytes quoted, const IpAddress& source, const IpAddress& destination) {
    const bool is_v4 = source.is_v4();
    if (choose_(3) != 0) {
      quoted.resize(
          std::min<size_t>(quoted.size(), choose_(2) == 0 ? 28 + choose_(40) : choose_(1200)));
    }
    if (quoted.size() > 1232) quoted.resize(1232);
    for (uint32_t n = choose_(6) == 0 ? 1 + choose_(2) : 0; n > 0 && !quoted.empty(); --n) {
      quoted[choose_(std::min<uint32_t>(static_cast<uint32_t>(quoted.size()), 60))] =
          static_cast<uint8_t>(choose_(256));
    }
    static const std::vector<uint32_t> mtus = {0,    68,   576,  700,  1000,
                                               1280, 1300, 1400, 1480, 70000};
    static const std::vector<uint8_t> types_v4 = {3, 3, 3, 11, 12, 4};
    static const std::vector<uint8_t> types_v6 = {2, 2, 2, 1, 3, 4, 0, 127};
    uint8_t type = OneOf(is_v4 ? types_v4 : types_v6);
    uint8_t code = is_v4 && type == 3 && choose_(4) != 0 ? 4 : static_cast<uint8_t>(choose_(2));
    if (options_.is_for_any_burst_size && (is_v4 ? code == 4 : type == 2)) type = code = 1;
    return Icmp(source, destination, type, code, OneOf(mtus), quoted);
  }

  // About one that was sent lately: outer packets, packets to nat backends and their answers.
  Bytes ErrorAboutOurs() {
    if (sent_.empty()) return FromClient();
    const Bytes& frame = sent_[choose_(static_cast<uint32_t>(sent_.size()))];
    const auto read = ReadFrame(frame);
    if (!read.has_value()) return FromClient();
    const Bytes packet = From(frame, read->ip);
    const IpAddress to = read->is_v4 ? IpAddress::V4(&packet[12]) : IpAddress::V6(&packet[8]);
    IpAddress router = Address(read->is_v4 ? "10.255.0.1" : "2001:db8:ff::1");
    if (choose_(4) == 0) router = Client(read->is_v4);
    return Error(packet, router, choose_(25) == 0 ? Client(read->is_v4) : to);
  }

  // About an answer from a VIP to one of the clients.
  Bytes ErrorAboutAnswer() {
    if (received_.empty()) return FromClient();
    const Bytes& frame = received_[choose_(static_cast<uint32_t>(received_.size()))];
    const auto read = ReadFrame(frame);
    if (!read.has_value()) return FromClient();
    const Bytes answer = Reversed(From(frame, read->ip));
    const IpAddress vip = read->is_v4 ? IpAddress::V4(&answer[12]) : IpAddress::V6(&answer[8]);
    return Error(answer, Client(read->is_v4), vip);
  }

  // What a backend answers to one that was sent to it.
  Bytes Answer() {
    for (int tries = 0; tries < 4 && !sent_.empty(); ++tries) {
      const Bytes& frame = sent_[choose_(static_cast<uint32_t>(sent_.size()))];
      const auto read = ReadFrame(frame);
      if (!read.has_value() || (read->protocol != 6 && read->protocol != 17)) continue;
      Bytes answer = Reversed(From(frame, read->ip));
      if (read->is_v4) {
        Put16(answer, 4, Identification());
        FixIpv4Checksum(answer);
      }
      if (choose_(3) == 0) {
        const uint8_t size = static_cast<uint8_t>(read->is_v4 ? 4 : 16);
        const size_t to = read->is_v4 ? 16 : 24;
        const IpAddress own = Address(read->is_v4 ? "10.0.3.1" : "2001:db8:1::1");
        if (choose_(3) == 0) std::memcpy(&answer[to], own.bytes(), size);
        FixIpv4Checksum(answer);
      }
      return answer;
    }
    // One that nobody asked for.
    const bool is_v4 = choose_(2) == 0;
    const IpAddress source = Address(is_v4 ? "10.0.3.21" : "2001:db8:3::22");
    const uint8_t protocol = is_v4 && choose_(2) == 0 ? 6 : 17;
    const uint16_t port = is_v4 ? (protocol == 6 ? 5432 : 1500) : 1053;
    const IpAddress client = Client(is_v4);
    return Ip(source, client, protocol, Transport(source, client, protocol, port, 40000));
  }

  // One that came before, perhaps with other flags.
  Bytes Again() {
    if (received_.empty()) return FromClient();
    const Bytes& frame = received_[choose_(static_cast<uint32_t>(received_.size()))];
    const auto read = ReadFrame(frame);
    if (!read.has_value()) return FromClient();
    Bytes packet = From(frame, read->ip);
    const bool may_be_fragment = read->is_v4 ? (Get16(packet, 6) & 0x3fff) != 0
                                             : read->protocol != 6 && read->protocol != 17;
    if (options_.is_for_any_burst_size && may_be_fragment) return FromClient();
    return packet;
  }

  // No IP.
  Bytes Odd() {
    Bytes frame(14 + choose_(50));
    static const std::vector<uint32_t> types = {0x0806, 0x88cc, 0x8100, 0x88a8, 0x0800, 0x86dd};
    Put16(frame, 12, OneOf(types));
    return frame;
  }

  // Cuts a packet into fragments, which come later and in any order; some are lost.
  void Cut(const Bytes& packet) {
    const bool is_v4 = packet[0] >> 4 == 4;
    const size_t header = is_v4 ? (packet[0] & 15) * 4u : 40;
    const Bytes payload = From(packet, header);
    const uint32_t identification = Identification();
    std::vector<Bytes> parts;
    for (size_t at = 0; at < payload.size();) {
      const size_t size = std::min<size_t>(payload.size() - at, 8 * (4 + choose_(100)));
      const bool more = at + size < payload.size();
      Bytes b = Part(packet, 0, header);
      if (is_v4) {
        Put16(b, 2, static_cast<uint32_t>(header + size));
        Put16(b, 4, identification);
        Put16(b, 6, static_cast<uint32_t>(at / 8) | (more ? 0x2000 : 0));
        FixIpv4Checksum(b);
      } else {
        Put16(b, 4, static_cast<uint32_t>(8 + size));
        Add8(b, b[6]);
        b[6] = 44;
        Add8(b, 0);
        Add16(b, static_cast<uint32_t>(at) | (more ? 1 : 0));
        Add32(b, identification);
      }
      Add(b, Part(payload, at, at + size));
      parts.push_back(b);
      at += size;
    }
    for (size_t i = parts.size(); i > 1; --i) {
      if (choose_(2) == 0) std::swap(parts[i - 1], parts[choose_(static_cast<uint32_t>(i))]);
    }
    for (size_t i = 1; i < parts.size(); ++i) {
      if (choose_(10) == 0) parts[i].clear();
    }
    for (Bytes& part : parts) {
      if (!part.empty()) pending_.push_back(part);
    }
    while (pending_.size() > 24) pending_.pop_front();
  }

  Bytes TakePending() {
    const Bytes packet = pending_.front();
    pending_.pop_front();
    return packet;
  }

  void Mutate(Bytes& packet) {
    is_mutated_ = true;
    for (uint32_t n = 1 + choose_(3); n > 0 && !packet.empty(); --n) {
      const uint32_t reach = std::min<uint32_t>(static_cast<uint32_t>(packet.size()), 90);
      const size_t at = choose_(reach);
      switch (choose_(4)) {
        case 0: packet[at] ^= static_cast<uint8_t>(1 << choose_(8)); break;
        case 1: packet[at] = static_cast<uint8_t>(choose_(256)); break;
        case 2:
          packet.resize(choose_(2) == 0 ? at : choose_(static_cast<uint32_t>(packet.size())));
          break;
        case 3: {
          const size_t length = packet[0] >> 4 == 4 ? 2 : 4;
          if (packet.size() > 6) {
            Put16(packet, length, Get16(packet, length) + choose_(17) - 8);
          }
          break;
        }
      }
    }
    if (choose_(4) != 0) FixIpv4Checksum(packet);
  }

  // Mostly one that others bear, too.
  uint32_t Identification() {
    return options_.is_for_any_burst_size ? ++identification_ & 0xffff : choose_(8);
  }

  Bytes Framed(const Bytes& packet) {
    Bytes frame = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0xaa};
    static const std::vector<uint32_t> tags = {0x8100, 0x88a8, 0x9100};
    for (uint32_t n = choose_(8) == 0 ? 1 + choose_(3) : 0; n > 0; --n) {
      Add16(frame, OneOf(tags));
      Add16(frame, choose_(65536));
    }
    Add16(frame, packet.empty() || packet[0] >> 4 == 4 ? 0x0800 : 0x86dd);
    Add(frame, packet);
    if (frame.size() < 60 && choose_(2) == 0) frame.resize(60, 0x5a);
    if (choose_(40) == 0) Add(frame, Payload(choose_(30)));
    return frame;
  }

  const Choose& choose_;
  const TrafficOptions& options_;
  Plan& plan_;
  std::deque<Bytes> pending_;  // fragments to come
  std::deque<Bytes> sent_, received_;
  bool is_mutated_ = false;
  uint32_t identification_ = 0;
};

void Note(const PlainOutcome& outcome, Seen& seen) {
  if (outcome.held) {
    ++seen["held"];
    return;
  }
  const size_t verdict = static_cast<size_t>(outcome.verdict);
  ++seen[absl::StrCat("verdict ", absl::string_view(kVerdictInfo[verdict].name))];
  if (outcome.verdict == Verdict::kDrop) {
    const size_t reason = static_cast<size_t>(outcome.reason);
    ++seen[absl::StrCat("reason ", absl::string_view(kReasonInfo[reason].name))];
  }
  if (outcome.flow == FlowLookup::kHit) ++seen["flow hit"];
  if (outcome.flow == FlowLookup::kNew) ++seen["flow new"];
  if (outcome.frames.size() > 1) ++seen["fragmented"];
}

std::string Difference(const Traffic& traffic, size_t number, const PlainOutcome& expected,
                       const PlainOutcome& actual) {
  std::string text = absl::StrCat("packet ", number, "\n expected: ", expected.ToString(),
                                  "\n but was:  ", actual.ToString(), "\n");
  for (size_t batch = 0, first = 0; batch < traffic.batches.size(); ++batch) {
    const Batch& b = traffic.batches[batch];
    if (number < first + b.packets.size()) {
      absl::StrAppend(&text, "batch ", batch, " at ", b.now, " ns, ", number - first, " of ",
                      b.packets.size(), "\n", Hex(b.packets[number - first].frame), "\n");
      break;
    }
    first += b.packets.size();
  }
  for (size_t i = 0; i < std::max(expected.frames.size(), actual.frames.size()); ++i) {
    const Bytes none;
    const Bytes& e = i < expected.frames.size() ? expected.frames[i] : none;
    const Bytes& a = i < actual.frames.size() ? actual.frames[i] : none;
    if (e == a) continue;
    size_t at = 0;
    while (at < e.size() && at < a.size() && e[at] == a[at]) ++at;
    absl::StrAppend(&text, "frame ", i, " differs at byte ", at, "; expected\n", Hex(e),
                    "\nbut was\n", Hex(a), "\n");
  }
  return text;
}

void ForgetIdentification(Bytes& frame) {
  const auto read = ReadFrame(frame);
  if (!read.has_value()) return;
  if (read->is_v4) {
    Put16(frame, read->ip + 4, 0);
    Put16(frame, read->ip + 10, 0);
  } else if (read->protocol == 44 && frame.size() >= read->ip + 48) {
    Put16(frame, read->ip + 44, 0);
    Put16(frame, read->ip + 46, 0);
  }
}

}  // namespace

// --- the real path ---

struct RealPath::State {
  State() : shared(1, 4096, PageSize::kLazy), pipeline(shared, 0) {}

  SharedState shared;
  Pipeline pipeline;
  Burst burst;
  PacketCounts counts;  // as they are to be
};

RealPath::RealPath() : state_(std::make_unique<State>()) {}
RealPath::~RealPath() = default;

// Processes what is in the burst.
void RealPath::Run(const Snapshot& snapshot, uint64_t now, Outcomes& outcomes) {
  Burst& burst = state_->burst;
  state_->pipeline.Process(snapshot, now, burst);
  for (uint32_t i = 0; i < burst.size; ++i) {
    if (!burst.packets[i].IsSent() || IsTaken(burst.packets[i].frame.number)) continue;
    burst.packets[i].Drop(Reason::kTransmitFull);
  }
  state_->pipeline.Account(burst);
  auto extra = burst.extras.begin();
  for (uint32_t i = 0; i < burst.size; ++i) {
    PlainOutcome outcome;
    outcome.held = burst.packets[i].held;
    if (!outcome.held) {
      outcome.verdict = burst.packets[i].verdict;
      ++state_->counts.received;
      ++state_->counts.verdicts[static_cast<size_t>(outcome.verdict)];
      if (outcome.verdict == Verdict::kDrop) {
        outcome.reason = burst.packets[i].reason;
        ++state_->counts.reasons[static_cast<size_t>(outcome.reason)];
      }
      outcome.flow = burst.packets[i].lookup;
      const Service* service = burst.ServiceOf(burst.packets[i]);
      if (service != nullptr) outcome.service = service->name;
      const Backend* backend = burst.BackendOf(burst.packets[i]);
      if (backend != nullptr) outcome.backend = backend->name;
    }
    if (burst.packets[i].IsSent()) {
      const Frame& frame = burst.packets[i].frame;
      outcome.frames.emplace_back(frame.data, frame.data + frame.length);
      outcome.interface = frame.interface;
    }
    for (; extra != burst.extras.end() && extra->packet == i; ++extra) {
      if (!IsTaken(burst.packets[i].frame.number)) continue;
      Check(burst.packets[i].IsSent(), "fragments of a packet that is not sent");
      outcome.frames.emplace_back(extra->data, extra->data + extra->length);
    }
    outcomes.emplace_back(burst.packets[i].frame.number, std::move(outcome));
  }
  Check(extra == burst.extras.end(), "extra frames in another order than their packets");
  const PacketCounts counts = state_->shared.counters(0).packet_counts();
  Check(counts.AddUp(), "received is not forwarded + replied + punted + dropped");
  Check(counts.received == state_->counts.received && counts.verdicts == state_->counts.verdicts &&
            counts.reasons == state_->counts.reasons,
        "counters are not what became of the packets");
}

RealPath::Outcomes RealPath::Send(const std::vector<Batch::Packet>& packets, uint64_t number,
                                  uint32_t burst_size, const Snapshot& snapshot, uint64_t now) {
  Outcomes outcomes;
  Burst& burst = state_->burst;
  for (size_t first = 0; first < packets.size(); first += burst.size) {
    burst.size = static_cast<uint32_t>(std::min<size_t>(burst_size, packets.size() - first));
    // Memory of their own, so that AddressSanitizer sees what is read behind a frame.
    std::vector<std::unique_ptr<uint8_t[]>> memory;
    for (uint32_t i = 0; i < burst.size; ++i) {
      const Batch::Packet& packet = packets[first + i];
      memory.push_back(std::make_unique<uint8_t[]>(Frame::kHeadroom + packet.frame.size()));
      std::memset(memory[i].get(), 0xee, Frame::kHeadroom);
      uint8_t* data = memory[i].get() + Frame::kHeadroom;
      std::copy(packet.frame.begin(), packet.frame.end(), data);
      burst.packets[i].frame = {.data = data,
                                .length = static_cast<uint32_t>(packet.frame.size()),
                                .interface = 7,
                                .ip_checksum_good = packet.ip_checksum_good,
                                .number = number + first + i};
    }
    const uint32_t size = burst.size;
    Run(snapshot, now, outcomes);
    const Outcomes released = Release(false, snapshot, now);
    outcomes.insert(outcomes.end(), released.begin(), released.end());
    burst.size = size;
  }
  return outcomes;
}

RealPath::Outcomes RealPath::Release(bool all, const Snapshot& snapshot, uint64_t now) {
  Outcomes outcomes;
  while (state_->pipeline.TakeHeld(now, all, state_->burst)) Run(snapshot, now, outcomes);
  for (const auto& [number, outcome] : outcomes) Check(!outcome.held, "held a second time");
  return outcomes;
}

void RealPath::Sweep(const Snapshot& snapshot, uint64_t now) {
  state_->pipeline.Sweep(snapshot, now, state_->pipeline.flows().lines());
}

// --- runs ---

std::shared_ptr<const Snapshot> RichSnapshot() {
  uint32_t n = 0;
  const Choose choose = [&](uint32_t below) { return ++n % below; };
  Plan plan(choose);
  for (ServicePlan& service : plan.services()) {
    for (BackendPlan& backend : service.backends) {
      backend.state = BackendState::kUp;
      backend.interface = 1;
    }
  }
  return plan.Make();
}

Traffic MakeTraffic(const Choose& choose, const TrafficOptions& options, Seen& seen) {
  Plan plan(choose);
  if (options.is_for_any_burst_size) plan.LiftReplyLimit();
  Generator generator(choose, options, plan);
  PlainPath path;
  Traffic traffic;
  std::shared_ptr<const Snapshot> snapshot = plan.Make();
  uint64_t now = kStart;
  const auto note = [&](uint64_t number, PlainOutcome outcome) {
    if (!outcome.frames.empty() && !IsTaken(number)) {
      outcome.verdict = Verdict::kDrop;
      outcome.reason = Reason::kTransmitFull;
      outcome.frames.clear();
      outcome.interface = 0;
    }
    Note(outcome, seen);
    for (const Bytes& frame : outcome.frames) {
      if (choose(3) == 0) generator.Sent(frame);
    }
    traffic.outcomes[number] = outcome;
  };
  const auto release = [&](bool all) {
    for (const auto& [number, outcome] : path.Release(all, *snapshot, now)) {
      ++seen["released"];
      note(number, outcome);
    }
  };
  for (int n = 0; n < options.batches; ++n) {
    // Often by just what something lasts: a held fragment, a fate, a connection, a path MTU.
    constexpr std::array kTimes = {2, 4, 40, 60, 120, 480, 2400};
    constexpr uint64_t kTick = kSecondNs / 4;
    switch (choose(13)) {
      case 12: now += kTick * (static_cast<uint64_t>(kTimes[choose(7)]) + choose(3) - 1); break;
      case 0: now += choose(1000); break;
      case 1:
      case 2:
      case 3: now += choose(100000000); break;
      case 4: now += choose(2000000000); break;
      case 5: now += kSecondNs * choose(20); break;
      case 6: now += choose(3) == 0 ? kSecondNs * choose(700) : kSecondNs / 2; break;
      default: break;
    }
    if (choose(5) == 0) {
      for (uint32_t changes = 1 + choose(3); changes > 0; --changes) plan.Change();
      snapshot = plan.Make();
    }
    Batch batch = {.now = now, .snapshot = snapshot, .sweeps = choose(15) == 0};
    if (batch.sweeps) path.Sweep(*snapshot, now);
    release(false);
    for (uint32_t size = 1 + choose(options.largest_batch); size > 0; --size) {
      const Batch::Packet packet = generator.Next();
      batch.packets.push_back(packet);
      const uint64_t number = traffic.outcomes.size();
      traffic.outcomes.emplace_back();
      note(number, path.Handle(packet.frame, packet.ip_checksum_good, number, *snapshot, now));
    }
    release(false);
    traffic.batches.push_back(std::move(batch));
  }
  release(true);
  return traffic;
}

std::vector<PlainOutcome> RunTraffic(const std::vector<Batch>& batches, uint32_t burst_size,
                                     std::string& error) {
  RealPath path;
  std::vector<PlainOutcome> all;
  const auto note = [&](const std::vector<std::pair<uint64_t, PlainOutcome>>& outcomes) {
    for (const auto& [number, outcome] : outcomes) {
      if (number >= all.size()) all.resize(number + 1);
      all[number] = outcome;
    }
  };
  uint64_t number = 0;
  for (const Batch& batch : batches) {
    if (batch.sweeps) path.Sweep(*batch.snapshot, batch.now);
    note(path.Release(false, *batch.snapshot, batch.now));
    note(path.Send(batch.packets, number, burst_size, *batch.snapshot, batch.now));
    number += batch.packets.size();
    error = path.error();
    if (!error.empty()) {
      error = absl::StrCat("after packet ", number, ": ", error);
      return all;
    }
  }
  if (!batches.empty()) note(path.Release(true, *batches.back().snapshot, batches.back().now));
  error = path.error();
  return all;
}

std::string CompareWithModel(const Traffic& traffic) {
  std::string error;
  const std::vector<PlainOutcome> actual = RunTraffic(traffic.batches, Burst::kSize, error);
  for (size_t i = 0; i < actual.size(); ++i) {
    if (!(actual[i] == traffic.outcomes[i])) {
      return Difference(traffic, i, traffic.outcomes[i], actual[i]);
    }
  }
  if (error.empty() && actual.size() != traffic.outcomes.size()) error = "packets are missing";
  return error;
}

std::string CompareButIdentifications(const Traffic& traffic, const std::vector<PlainOutcome>& one,
                                      const std::vector<PlainOutcome>& other) {
  if (one.size() != other.size()) return "not as many packets";
  for (size_t i = 0; i < one.size(); ++i) {
    PlainOutcome a = one[i], b = other[i];
    for (Bytes& frame : a.frames) ForgetIdentification(frame);
    for (Bytes& frame : b.frames) ForgetIdentification(frame);
    if (!(a == b)) return Difference(traffic, i, one[i], other[i]);
  }
  return "";
}

}  // namespace guideway::testing
