#include "control/compile.h"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_join.h"
#include "maglev/choice.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

constexpr char kAbc[] =
    "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }, { name: c, address: 10.0.0.3 "
    "}";

// Everything is up; ids count from 0 in file order.
CompileInput Input(const std::string& text, std::shared_ptr<const Snapshot> previous = nullptr) {
  CompileInput input;
  input.loaded = std::make_shared<const LoadedConfig>(LoadText(text));
  input.hash_seed = 7;
  input.previous = std::move(previous);
  input.version = input.previous == nullptr ? 1 : input.previous->version() + 1;
  uint32_t id = 0;
  for (const config::Service& service : input.loaded->config.services()) {
    ServiceFacts& facts = input.services.emplace_back();
    facts.id = static_cast<ServiceId>(input.services.size() - 1);
    for (int i = 0; i < service.backends_size(); ++i) facts.backends.push_back({id++});
  }
  std::vector<InterfaceStatus> interfaces;
  for (const config::Interface& interface : input.loaded->config.interfaces()) {
    const auto n = static_cast<uint8_t>(interfaces.size() + 1);
    interfaces.push_back({.name = interface.name(),
                          .mac = {{2, 0, 0, 0, 0, n}},
                          .mtu = static_cast<uint16_t>(interface.mtu())});
  }
  input.routes = StaticRoutes(input.loaded->config, interfaces);
  return input;
}

std::shared_ptr<const Snapshot> MustCompile(const CompileInput& input) {
  auto snapshot = Compile(input);
  CHECK(snapshot.ok()) << snapshot.status().message();
  return *std::move(snapshot);
}

const Service& First(const std::shared_ptr<const Snapshot>& s) { return *s->services().at(0); }
const LookupTable::Assignment& Slots(const std::shared_ptr<const Snapshot>& s) {
  return *First(s).pools[0].assignment;
}

TEST(Compile, FillsInWhatTheFileSays) {
  const auto snapshot = MustCompile(Input(R"(
dataplane: { flow_timeouts: { udp: 7s } }
interfaces:
  - { name: left, device: net_null0 }
  - { name: right, device: net_null1, mtu: 9000 }
routes:
  - { prefix: 10.0.0.0/8, interface: left, mac: "02:00:00:00:00:f1" }
  - { prefix: 10.0.0.0/24, interface: right, mac: "02:00:00:00:00:f2" }
  - { prefix: 10.0.0.3, interface: left, mac: "02:00:00:00:00:f3" }
tunnel: { source_ipv4: 192.0.2.1 }
services:
  - name: web
    vips: [198.51.100.10, 198.51.100.11]
    protocol: udp
    ports: [53, 8000-8001]
    forwarding: ipip
    table_size: 211
    backends:
      - { name: z, address: 10.0.0.2, weight: 50 }
      - { name: host, address: 10.0.0.3 }
      - { name: far, address: 10.9.0.1 }
      - { name: lost, address: 172.16.0.1 }
)"));
  EXPECT_EQ(snapshot->version(), 1u);
  EXPECT_EQ(snapshot->hash_seed(), 7u);
  EXPECT_EQ(snapshot->timeouts().udp_s, 7u);
  const Service& web = First(snapshot);
  EXPECT_EQ(web.name, "web");
  EXPECT_EQ(web.protocol, Protocol::kUdp);
  EXPECT_EQ(web.ports, (std::vector<PortRange>{{53, 53}, {8000, 8001}}));
  EXPECT_EQ(web.forwarding, Forwarding::kIpip);
  const IpAddress vip = IpAddress::Parse("198.51.100.11").value();
  ASSERT_NE(snapshot->vips().Find(vip), nullptr);
  EXPECT_EQ(snapshot->vips().Find(vip)->Find(17, 8001)->id, web.id);
  EXPECT_EQ(snapshot->vips().Find(vip)->Find(6, 8001), nullptr);

  ASSERT_EQ(web.backends.size(), 4u);
  EXPECT_EQ(web.backends[0].name, "far") << "sorted by name";
  std::map<std::string, const Backend*> by_name;
  for (const Backend& b : web.backends) by_name[b.name] = &b;
  EXPECT_EQ(by_name["z"]->weight, 50u);
  EXPECT_EQ(by_name["z"]->id, 0u);
  EXPECT_EQ(snapshot->FindBackend(0), by_name["z"]);
  EXPECT_EQ(by_name["z"]->tunnel_source.ToString(), "192.0.2.1");
  // The longest prefix leads to the backend.
  EXPECT_EQ(by_name["z"]->next_hop,
            (NextHop{1, 9000, {{2, 0, 0, 0, 0, 0xf2}}, {{2, 0, 0, 0, 0, 2}}}));
  EXPECT_EQ(by_name["host"]->next_hop,
            (NextHop{0, 1500, {{2, 0, 0, 0, 0, 0xf3}}, {{2, 0, 0, 0, 0, 1}}}));
  EXPECT_EQ(by_name["far"]->next_hop.destination.bytes[5], 0xf1);
  EXPECT_FALSE(by_name["lost"]->next_hop.is_known());
}

TEST(Compile, OnlyBackendsThatAreUpAreInTheTable) {
  CompileInput input = Input(ConfigText(ServiceText("web", 1, kAbc)));
  input.services[0].backends[1].state = BackendState::kDrain;
  input.services[0].backends[2].state = BackendState::kDown;
  const auto snapshot = MustCompile(input);
  EXPECT_EQ(First(snapshot).backends[1].state, BackendState::kDrain);
  EXPECT_EQ(First(snapshot).backends[2].state, BackendState::kDown);
  for (LookupTable::Member m : *First(snapshot).pools[0].assignment) ASSERT_EQ(m, 0);
}

TEST(Compile, WithoutBackendsNobodyHasASlot) {
  const auto snapshot = MustCompile(Input(ConfigText(ServiceText("web", 1, ""))));
  for (LookupTable::Member m : *First(snapshot).pools[0].assignment)
    ASSERT_EQ(m, LookupTable::kNoMember);
}

TEST(Compile, TheOrderOfTheFileMattersToNothing) {
  const auto a = MustCompile(Input(ConfigText(
      ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }"))));
  const auto b = MustCompile(Input(ConfigText(
      ServiceText("web", 1, "{ name: b, address: 10.0.0.2 }, { name: a, address: 10.0.0.1 }"))));
  EXPECT_EQ(Slots(a), Slots(b));
}

// What a change leaves shared with the Snapshot before.
TEST(Compile, SharesWhatDidNotChange) {
  const std::string other = ServiceText("other", 2, "{ name: x, address: 10.0.1.1 }");
  const std::string before_text = ConfigText(ServiceText("web", 1, kAbc) + other);
  const auto before = MustCompile(Input(before_text));
  struct {
    const char* what;
    std::string text;
    bool service, table;
  } rows[] = {
      {"nothing", before_text, true, true},
      {"another service", ConfigText(ServiceText("web", 1, kAbc)), true, true},
      {"vip", ConfigText(ServiceText("web", 9, kAbc) + other), false, true},
      {"address",
       ConfigText(ServiceText("web", 1,
                              "{ name: a, address: 10.0.0.9 }, { name: b, address: 10.0.0.2 }, "
                              "{ name: c, address: 10.0.0.3 }") +
                  other),
       false, true},
      {"weight",
       ConfigText(ServiceText("web", 1,
                              "{ name: a, address: 10.0.0.1, weight: 7 }, { name: b, address: "
                              "10.0.0.2 }, { name: c, address: 10.0.0.3 }") +
                  other),
       false, false},
      {"a backend fewer",
       ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }") + other), false, false},
  };
  for (const auto& row : rows) {
    const auto after = MustCompile(Input(row.text, before));
    EXPECT_EQ(after->version(), 2u);
    EXPECT_EQ(&First(after) == &First(before), row.service) << row.what;
    EXPECT_EQ(First(after).pools[0].table == First(before).pools[0].table, row.table) << row.what;
  }
}

// A file with one service, by parts.
struct Parts {
  std::string top = "tunnel: { source_ipv4: 192.0.2.1, source_ipv6: \"2001:db8::9\" }";
  std::string vips = "198.51.100.10";
  std::string traffic = "protocol: tcp, ports: [80]";
  std::string forwarding = "ipip";
  std::string more = "";
  std::string backends = "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }";
  std::string mac = "02:00:00:00:00:fe";

  std::string Text() const {
    return absl::StrCat(
        "fleet: { hash_seed: 7 }\n", top, "\ninterfaces: [{ name: uplink, device: ",
        "net_null0 }]\nroutes:\n  - { prefix: 0.0.0.0/0, interface: uplink, mac: \"", mac,
        "\" }\n  - { prefix: \"::/0\", interface: uplink, mac: \"", mac,
        "\" }\nservices:\n  - { name: s, vips: [", vips, "], ", traffic,
        ", forwarding: ", forwarding, ", table_size: 1009, ",
        more.empty() ? "" : absl::StrCat(more, ", "), "backends: [", backends, "] }\n");
  }
};

TEST(Compile, AServiceWithAChangedFieldIsAnother) {
  const Parts base;
  const Parts gue = {.forwarding = "gue"};
  const Parts vxlan = {.forwarding = "vxlan"};
  const Parts nat = {.forwarding = "nat"};
  const Parts udp = {.traffic = "protocol: udp, ports: [443]"};
  const struct {
    const char* what;
    Parts before, after;
  } rows[] = {
      {"a VIP's length", base, {.vips = "198.51.100.10/31"}},
      {"protocol", base, {.traffic = "protocol: udp, ports: [80]"}},
      {"every protocol", base, {.traffic = "protocol: any"}},
      {"ports", base, {.traffic = "protocol: tcp, ports: [80, 443]"}},
      {"forwarding", base, {.forwarding = "gre"}},
      {"gue.port", gue, {.forwarding = "{ gue: { port: 6081 } }"}},
      {"vxlan.port", vxlan, {.forwarding = "{ vxlan: { port: 8472 } }"}},
      {"vxlan.vni", vxlan, {.forwarding = "{ vxlan: { vni: 7 } }"}},
      {"vxlan.inner_mac", vxlan, {.forwarding = "{ vxlan: { inner_mac: \"02:00:00:00:00:02\" } }"}},
      {"limits", base, {.more = "limits: { new_flows_per_second: 9 }"}},
      {"nothing that workers see", base, {.more = "slow_start: 9s"}},
      {"affinity", base, {.more = "affinity: client"}},
      {"quic",
       udp,
       {.traffic = udp.traffic,
        .more = "quic: { configs: [{ id: 1, server_id_length: 1, nonce_length: 4 }] }"}},
      {"a backend's port",
       nat,
       {.forwarding = "nat",
        .backends = "{ name: a, address: 10.0.0.1, port: 8080 }, { name: b, address: 10.0.0.2 }"}},
      {"a backend's family",
       base,
       {.backends = "{ name: a, address: \"2001:db8::1\" }, { name: b, address: 10.0.0.2 }"}},
      {"the tunnel's source", base, {.top = "tunnel: { source_ipv4: 192.0.2.2 }"}},
      {"the tunnel's spread",
       base,
       {.top = "tunnel: { source_ipv4: 192.0.2.1, spread_ipv4: 172.16.0.0/16 }"}},
      {"the next hop", base, {.mac = "02:00:00:00:00:fd"}},
  };
  for (const auto& row : rows) {
    const auto before = MustCompile(Input(row.before.Text()));
    const auto same = MustCompile(Input(row.before.Text(), before));
    EXPECT_EQ(&First(same), &First(before)) << row.what;
    const auto after = MustCompile(Input(row.after.Text(), before));
    const bool is_seen = row.after.more != "slow_start: 9s";
    EXPECT_EQ(&First(after) != &First(before), is_seen) << row.what;
  }
}

TEST(Compile, FillsInHowPacketsReachTheirBackends) {
  constexpr char kBoth[] =
      "{ name: v4, address: 10.0.0.1 }, { name: v6, address: \"2001:db8::1\" }";
  const std::string spread =
      "tunnel: { source_ipv4: 192.0.2.1, source_ipv6: \"2001:db8::9\", "
      "spread_ipv4: 172.16.0.0/16, spread_ipv6: \"100::/64\" }";
  const std::string half = "tunnel: { source_ipv6: \"2001:db8::9\", spread_ipv4: 172.16.0.0/16 }";
  const MacAddress mac = MacAddress::Parse("02:00:00:00:00:07").value();
  const struct {
    std::string top, forwarding;
    Forwarding expected;
    TunnelSettings tunnel;
    std::string v4, v6;
  } rows[] = {
      {Parts().top, "ipip", Forwarding::kIpip, {}, "192.0.2.1", "2001:db8::9"},
      {spread, "ipip", Forwarding::kIpip, {}, "172.16.0.0/16", "100::/64"},
      {half, "ipip", Forwarding::kIpip, {}, "172.16.0.0/16", "2001:db8::9"},
      {spread, "gre", Forwarding::kGre, {}, "172.16.0.0/16", "100::/64"},
      {spread, "gue", Forwarding::kGue, {.port = 6080}, "192.0.2.1", "2001:db8::9"},
      {spread, "{ gue: { port: 7 } }", Forwarding::kGue, {.port = 7}, "192.0.2.1", "2001:db8::9"},
      {spread,
       "{ vxlan: { port: 8, vni: 16777215, inner_mac: \"02:00:00:00:00:07\" } }",
       Forwarding::kVxlan,
       {.port = 8, .vni = 16777215, .inner_mac = mac},
       "192.0.2.1",
       "2001:db8::9"},
      {spread, "direct", Forwarding::kDirect, {}, "none", "none"},
      {"tunnel: {}", "direct", Forwarding::kDirect, {}, "none", "none"},
  };
  for (const auto& row : rows) {
    const Parts parts = {.top = row.top, .forwarding = row.forwarding, .backends = kBoth};
    const auto snapshot = MustCompile(Input(parts.Text()));
    const Service& service = First(snapshot);
    EXPECT_EQ(service.forwarding, row.expected);
    EXPECT_EQ(service.tunnel, row.tunnel) << row.forwarding;
    EXPECT_EQ(service.backends[0].tunnel_source.ToString(), row.v4) << row.forwarding;
    EXPECT_EQ(service.backends[1].tunnel_source.ToString(), row.v6) << row.forwarding;
    EXPECT_EQ(service.backends[1].port, 0);
    EXPECT_TRUE(service.backends[1].next_hop.is_known());
  }
  const auto nat = MustCompile(Input(
      Parts{.forwarding = "nat", .backends = "{ name: a, address: 10.0.0.1, port: 8080 }"}.Text()));
  EXPECT_EQ(First(nat).backends[0].port, 8080);
  EXPECT_EQ(First(nat).backends[0].tunnel_source, Prefix());
  ASSERT_NE(nat->FindNatBackend(First(nat).backends[0].address, 6, 8080), nullptr);
}

TEST(Compile, FillsInWhatComesIn) {
  const std::string text =
      Parts{.top =
                "dataplane: { replies_per_second: 17 }\n"
                "access: { deny: [203.0.113.0/24], allow: [203.0.113.7] }\n"
                "tunnel: { source_ipv4: 192.0.2.1, source_ipv6: \"2001:db8::9\" }",
            .vips = "198.51.100.96/28, \"2001:db8:1::/64\", \"2001:db8:2::1\"",
            .traffic = "protocol: any",
            .more = "limits: { new_flows_per_second: 4294967295 }"}
          .Text();
  CompileInput input = Input(text);
  input.own_addresses = {IpAddress::Parse("192.0.2.50").value()};
  const auto snapshot = MustCompile(input);
  EXPECT_EQ(snapshot->replies_per_second(), 17u);
  EXPECT_TRUE(snapshot->IsDenied(IpAddress::Parse("203.0.113.6").value()));
  EXPECT_FALSE(snapshot->IsDenied(IpAddress::Parse("203.0.113.7").value()));
  for (const char* own : {"192.0.2.50", "192.0.2.1", "2001:db8::9"}) {
    EXPECT_TRUE(snapshot->IsOwn(IpAddress::Parse(own).value())) << own;
  }
  EXPECT_FALSE(snapshot->IsOwn(IpAddress::Parse("10.0.0.1").value()));
  const Service& service = First(snapshot);
  EXPECT_EQ(service.protocol, Protocol::kAny);
  EXPECT_EQ(service.ports, (std::vector<PortRange>{{0, 65535}}));
  EXPECT_EQ(service.new_flows_per_second, 4294967295u);
  for (const char* vip : {"198.51.100.111", "2001:db8:1::5", "2001:db8:2::1"}) {
    const Vip* found = snapshot->vips().Find(IpAddress::Parse(vip).value());
    ASSERT_NE(found, nullptr) << vip;
    EXPECT_EQ(found->Find(47, 0)->id, service.id);
  }
  EXPECT_EQ(snapshot->vips().Find(IpAddress::Parse("198.51.100.112").value()), nullptr);
  EXPECT_EQ(MustCompile(Input(Parts().Text()))->replies_per_second(), 1000u);
}

TEST(Compile, QuicIdsAreIndicesOfBackends) {
  const Parts parts = {
      .traffic = "protocol: udp, ports: [443]",
      .more = "quic: { configs: [{ id: 0, server_id_length: 1, nonce_length: 4 }] }",
      .backends =
          "{ name: z, address: 10.0.0.1, quic_server_id: \"0a\" }, "
          "{ name: a, address: 10.0.0.2, quic_server_id: \"0b\" }"};
  CompileInput input = Input(parts.Text());
  const auto snapshot = MustCompile(input);
  const Service& service = First(snapshot);
  ASSERT_NE(service.quic, nullptr);
  const auto backend_of = [&](uint8_t server) {
    const uint8_t id[] = {0, server, 1, 2, 3, 4};
    return service.backends.at(service.quic->Find(id)).name;
  };
  EXPECT_EQ(backend_of(0x0a), "z");
  EXPECT_EQ(backend_of(0x0b), "a");
  input.previous = snapshot;
  EXPECT_EQ(&First(MustCompile(input)), &service) << "the same file";
}

TEST(Compile, RoutesAreWhatTheCallerSays) {
  CompileInput input = Input(Parts().Text());
  const NextHop hop = {.interface = 3, .mtu = 1400, .destination = {{2, 9, 9, 9, 9, 9}}};
  input.routes = {{Prefix::Parse("0.0.0.0/0").value(), hop}, {Prefix::Parse("::/0").value(), hop}};
  const auto before = MustCompile(input);
  EXPECT_EQ(First(before).backends[0].next_hop, hop);
  EXPECT_EQ(before->routes().Find(IpAddress::Parse("2001:db8::1").value()), hop);

  input.previous = before;
  EXPECT_EQ(MustCompile(input)->shared_routes(), before->shared_routes());
  input.routes[1].second.mtu = 1300;  // no backend's
  const auto after = MustCompile(input);
  EXPECT_EQ(after->routes().Find(IpAddress::Parse("2001:db8::1").value()).mtu, 1300);
  EXPECT_EQ(&First(after), &First(before));
  input.routes.clear();
  EXPECT_FALSE(First(MustCompile(input)).backends[0].next_hop.is_known());
}

TEST(StaticRoutes, AreThoseOfTheFile) {
  const LoadedConfig loaded = LoadText(R"(
fleet: { hash_seed: 7 }
interfaces: [{ name: left, device: net_null0 }, { name: right, device: net_null1 }]
routes:
  - { prefix: 10.0.0.0/8, interface: right, mac: "02:00:00:00:00:f1" }
  - { prefix: "2001:db8::/32", interface: left, mac: "02:00:00:00:00:f2" }
services: []
)");
  const InterfaceStatus left = {.name = "left", .mac = {{2, 0, 0, 0, 0, 1}}, .mtu = 1500};
  const InterfaceStatus right = {.name = "right", .mac = {{2, 0, 0, 0, 0, 2}}, .mtu = 9000};
  const NextHop by_right = {1, 9000, {{2, 0, 0, 0, 0, 0xf1}}, right.mac};
  const NextHop by_left = {0, 1500, {{2, 0, 0, 0, 0, 0xf2}}, left.mac};
  const std::pair v4(Prefix::Parse("10.0.0.0/8").value(), by_right);
  const std::pair v6(Prefix::Parse("2001:db8::/32").value(), by_left);
  EXPECT_EQ(StaticRoutes(loaded.config, {left, right}), (RouteList{v4, v6}));
  EXPECT_EQ(StaticRoutes(loaded.config, {left}), (RouteList{v6})) << "right is not there yet";
}

TEST(Compile, AStateChangeKeepsTheTableAndMovesOnlyThatBackendsSlots) {
  const std::string text = ConfigText(ServiceText("web", 1, kAbc) +
                                      ServiceText("other", 2, "{ name: x, address: 10.0.1.1 }"));
  const auto before = MustCompile(Input(text));
  CompileInput input = Input(text, before);
  input.services[0].backends[1].state = BackendState::kDown;
  const auto after = MustCompile(input);
  EXPECT_NE(after->services()[0], before->services()[0]);
  EXPECT_EQ(after->services()[1], before->services()[1]);
  EXPECT_EQ(First(after).pools[0].table, First(before).pools[0].table);
  for (size_t slot = 0; slot < Slots(after).size(); ++slot) {
    const LookupTable::Member was = Slots(before)[slot];
    if (was == 1) {
      EXPECT_NE(Slots(after)[slot], 1);
    } else {
      EXPECT_EQ(Slots(after)[slot], was);
    }
  }
}

TEST(Compile, AnotherSeedSharesNothing) {
  const std::string text = ConfigText(ServiceText("web", 1, kAbc));
  const auto before = MustCompile(Input(text));
  CompileInput input = Input(text, before);
  input.hash_seed = 8;
  const auto after = MustCompile(input);
  EXPECT_NE(First(after).pools[0].table, First(before).pools[0].table);
  EXPECT_NE(Slots(after), Slots(before));
}

TEST(Compile, ServicesWithEqualPoolsShareATable) {
  const auto snapshot =
      MustCompile(Input(ConfigText(ServiceText("one", 1, kAbc) + ServiceText("two", 2, kAbc) +
                                   ServiceText("three", 3, "{ name: a, address: 10.0.0.1 }"))));
  EXPECT_EQ(snapshot->services()[0]->pools[0].table, snapshot->services()[1]->pools[0].table);
  EXPECT_NE(snapshot->services()[0]->pools[0].table, snapshot->services()[2]->pools[0].table);
}

TEST(Compile, ServicesWithEqualPoolsAndStatesShareAnAssignment) {
  CompileInput input = Input(ConfigText(ServiceText("one", 1, kAbc) + ServiceText("two", 2, kAbc)));
  const auto all_up = MustCompile(input);
  EXPECT_EQ(&Slots(all_up)[0], First(all_up).pools[0].table->homes().data()) << "no copy of them";
  for (ServiceFacts& facts : input.services) facts.backends[1].state = BackendState::kDown;
  input.previous = all_up;
  const auto one_down = MustCompile(input);
  EXPECT_EQ(one_down->services()[0]->pools[0].assignment,
            one_down->services()[1]->pools[0].assignment);
  for (const auto& service : one_down->services()) {
    EXPECT_NEAR(service->connection_shares[0], 0.5, 0.02) << service->name;
    EXPECT_EQ(service->connection_shares[1], 0) << service->name;
    EXPECT_NEAR(service->connection_shares[2], 0.5, 0.02) << service->name;
  }
  input.services[1].backends[1].share = 3;
  input.services[1].backends[1].state = BackendState::kUp;
  input.previous = one_down;
  const auto differing = MustCompile(input);
  EXPECT_EQ(differing->services()[0], one_down->services()[0]);
  EXPECT_NE(Slots(differing), *differing->services()[1]->pools[0].assignment);
}

constexpr char kRegions[] =
    "scheduler: geographic, default_region: us, regions: [{ name: eu, prefixes: [192.0.2.0/25] }, "
    "{ name: us, prefixes: [192.0.2.128/25, 192.0.2.64/26] }, "
    "{ name: ap, prefixes: [\"2001:db8::/32\"], fallback: [us] }]";
constexpr char kRegionBackends[] =
    "{ name: u2, address: 10.0.0.2, region: us }, { name: e1, address: 10.0.0.1, region: eu }, "
    "{ name: u1, address: 10.0.0.3, region: us }, { name: a1, address: 10.0.0.4, region: ap }";

TEST(Compile, ARegionHasItsPoolAndItsStandIns) {
  CompileInput input = Input(ConfigText(ServiceText("cdn", 1, kRegionBackends, kRegions)));
  const auto snapshot = MustCompile(input);
  const Service& cdn = First(snapshot);
  ASSERT_EQ(cdn.pools.size(), 3u);
  std::vector<std::string> names;
  for (const Backend& b : cdn.backends) names.push_back(b.name);
  EXPECT_EQ(names, (std::vector<std::string>{"e1", "u1", "u2", "a1"})) << "by region, by name";
  const auto backends_of = [](const Service& service, const char* client) {
    std::set<std::string> backends;
    for (uint64_t i = 0; i < 200; ++i) {
      const FlowHash hash = {i * 0x9e3779b97f4a7c15u, 0};
      const Backend* b = ChooseByHash(service, IpAddress::Parse(client).value(), hash, 7);
      backends.insert(b == nullptr ? "nobody" : b->name);
    }
    return absl::StrJoin(backends, " ");
  };
  EXPECT_EQ(backends_of(cdn, "192.0.2.1"), "e1");
  EXPECT_EQ(backends_of(cdn, "192.0.2.65"), "u1 u2") << "the longest prefix";
  EXPECT_EQ(backends_of(cdn, "192.0.2.200"), "u1 u2");
  EXPECT_EQ(backends_of(cdn, "2001:db8::1"), "a1");
  EXPECT_EQ(backends_of(cdn, "8.8.8.8"), "u1 u2") << "the default region";
  EXPECT_NEAR(cdn.connection_shares[1], 0.5, 0.01) << "a part of its region's";
  EXPECT_EQ(cdn.connection_shares[3], 1);

  // By file order: u2, e1, u1, a1.
  struct {
    const char* what;
    std::vector<bool> up;
    const char *eu, *us, *ap;
  } const rows[] = {
      {"eu without its own goes to the next in the file", {1, 0, 1, 1}, "u1 u2", "u1 u2", "a1"},
      {"us by default goes to eu first", {0, 1, 0, 1}, "e1", "e1", "a1"},
      {"ap falls back to us alone", {0, 1, 0, 0}, "e1", "e1", "nobody"},
      {"ap falls back", {1, 1, 1, 0}, "e1", "u1 u2", "u1 u2"},
      {"the last one standing", {0, 0, 0, 1}, "a1", "a1", "a1"},
      {"nobody", {0, 0, 0, 0}, "nobody", "nobody", "nobody"},
  };
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.up.size(); ++i) {
      input.services[0].backends[i].state = row.up[i] ? BackendState::kUp : BackendState::kDown;
    }
    const auto changed = MustCompile(input);
    EXPECT_EQ(backends_of(First(changed), "192.0.2.1"), row.eu) << row.what;
    EXPECT_EQ(backends_of(First(changed), "192.0.2.200"), row.us) << row.what;
    EXPECT_EQ(backends_of(First(changed), "2001:db8::1"), row.ap) << row.what;
  }
}

TEST(Compile, SchedulersThatAreNoHash) {
  const std::string backends =
      "{ name: a, address: 10.0.0.1, weight: 3 }, { name: b, address: 10.0.0.2, weight: 1 }, "
      "{ name: c, address: 10.0.0.3 }";
  for (const char* scheduler : {"round_robin", "random", "least_connections"}) {
    const std::string text = ConfigText(absl::StrCat(
        "  - { name: s, vips: [198.51.100.1], protocol: tcp, ports: [80], forwarding: ipip, "
        "scheduler: ",
        scheduler, ", backends: [", backends, "] }\n"));
    CompileInput input = Input(text);
    input.services[0].backends[2].state = BackendState::kDrain;
    input.services[0].backends[0].share = 5;
    const auto snapshot = MustCompile(input);
    const Service& service = First(snapshot);
    EXPECT_DOUBLE_EQ(service.connection_shares[0], 0.6) << "half of weight 3, beside 1";
    EXPECT_DOUBLE_EQ(service.connection_shares[1], 0.4);
    EXPECT_EQ(service.connection_shares[2], 0);
    EXPECT_EQ(service.turns.empty(), service.scheduler != Scheduler::kRoundRobin);
    EXPECT_EQ(service.picks.empty(), service.scheduler == Scheduler::kRoundRobin);
    EXPECT_GE(Slots(snapshot).size(), 1021u) << "the table it falls back to";
  }
}

// 10,000 services of 10 backends with small tables: 2 bytes a slot are 20 MB, and as much again
// where somebody is down.
TEST(Compile, ManyServicesFitIntoMemory) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "AddressSanitizer counts memory its own way";
#endif
  std::string services;
  for (int s = 0; s < 10000; ++s) {
    absl::StrAppend(
        &services, "  - { name: s", s, ", vips: [10.1.", s / 250, ".", s % 250 + 1,
        "], protocol: tcp, ports: [80], forwarding: ipip, table_size: 1021, backends: [");
    for (int b = 0; b < 10; ++b) {
      absl::StrAppend(&services, "{ name: s", s, "-b", b, ", address: 10.2.", b, ".", s % 250,
                      " },");
    }
    absl::StrAppend(&services, "] }\n");
  }
  CompileInput input = Input(ConfigText(services));
  const auto in_use = [] {
    const struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
  };
  const size_t before = in_use();
  auto snapshot = MustCompile(input);
  EXPECT_LT(in_use() - before, 75u << 20) << "all are up: the homes are their tables";
  for (ServiceFacts& facts : input.services) facts.backends[3].state = BackendState::kDown;
  input.previous = std::move(snapshot);
  snapshot = MustCompile(input);
  input.previous = nullptr;
  EXPECT_LT(in_use() - before, 100u << 20) << "one of each is down";
}

TEST(Compile, ARenamedServiceKeepsItsTableButIsAnother) {
  const auto before = MustCompile(Input(ConfigText(ServiceText("web", 1, kAbc))));
  const auto after = MustCompile(Input(ConfigText(ServiceText("www", 1, kAbc)), before));
  EXPECT_NE(after->services()[0], before->services()[0]);
  EXPECT_EQ(First(after).pools[0].table, First(before).pools[0].table);
}

// --- digests ---

TEST(Compile, DigestsAreOfNamesAndWhoIsUp) {
  const CompileInput input = Input(ConfigText(ServiceText("web", 1, kAbc)));
  const auto all = MustCompile(input);
  EXPECT_EQ(First(all).effective_digest, First(all).configured_digest);

  // Another balancer: other order, ids and addresses, another service before it.
  CompileInput other = Input(
      ConfigText(ServiceText("first", 2, "{ name: x, address: 10.0.0.9 }") +
                 ServiceText("web", 1,
                             "{ name: c, address: 10.1.0.3 }, { name: a, address: 10.1.0.1 }, { "
                             "name: b, address: 10.1.0.2 }")));
  EXPECT_EQ(MustCompile(other)->services()[1]->configured_digest, First(all).configured_digest);
  EXPECT_NE(MustCompile(other)->services()[0]->configured_digest, First(all).configured_digest);

  CompileInput failed = input;
  failed.previous = all;
  failed.version = 2;
  failed.services[0].backends[1].state = BackendState::kDown;
  const auto without = MustCompile(failed);
  EXPECT_EQ(First(without).configured_digest, First(all).configured_digest);
  EXPECT_NE(First(without).effective_digest, First(all).effective_digest);
  other.services[1].backends[2].state = BackendState::kDrain;  // b as well, and gets nothing either
  EXPECT_EQ(MustCompile(other)->services()[1]->effective_digest, First(without).effective_digest);

  CompileInput back = input;
  back.previous = without;
  back.version = 3;
  EXPECT_EQ(First(MustCompile(back)).effective_digest, First(all).effective_digest);

  CompileInput seed = input;
  seed.hash_seed = 8;
  EXPECT_NE(First(MustCompile(seed)).configured_digest, First(all).configured_digest);
}

TEST(Compile, CountsTheTablesItBuilds) {
  const CompileInput input = Input(ConfigText(
      ServiceText("web", 1, kAbc) + ServiceText("same", 2, kAbc) + ServiceText("none", 3, "")));
  CompileStats stats;
  const auto all = *Compile(input, &stats);
  EXPECT_EQ(stats.tables_built, 2u) << "equal pools share one";
  CompileInput failed = input;
  failed.previous = all;
  failed.version = 2;
  failed.services[0].backends[1].state = BackendState::kDown;
  ASSERT_TRUE(Compile(failed, &stats).ok());
  EXPECT_EQ(stats.tables_built, 0u);
}

}  // namespace
}  // namespace guideway
