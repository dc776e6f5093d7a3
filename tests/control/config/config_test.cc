// The loader on whole files: the examples, defaults, warnings, hostile bytes, printing and loading
// again.
#include "control/config/config.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <random>
#include <sstream>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using google::protobuf::util::MessageDifferencer;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

constexpr absl::string_view kSmall = R"(fleet: { hash_seed: 7 }
interfaces:
  - { name: uplink, device: net_null0 }
routes:
  - { prefix: 10.0.0.0/24, interface: uplink, mac: "02:00:00:00:00:fe" }
tunnel: { source_ipv4: 192.0.2.1 }
services:
  - name: web
    vips: [198.51.100.10]
    protocol: tcp
    ports: [80]
    forwarding: ipip
    backends:
      - { name: b1, address: 10.0.0.1 }
)";

std::string Example(const std::string& name) {
  std::ifstream file(std::string(EXAMPLES) + "/" + name);
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_GT(text.str().size(), 100u) << name;
  return text.str();
}

absl::StatusOr<LoadedConfig> Load(const std::string& text,
                                  const std::map<std::string, std::string>& files = {}) {
  return LoadConfig("f", absl::string_view(text), TestFiles(files));
}

// What examples/tunnels.yaml names.
const std::map<std::string, std::string> kSeed = {{"hash-seed", "7\n"}};

// kSmall with the first `from` replaced.
std::string Changed(const std::string& from, const std::string& to) {
  std::string text(kSmall);
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(Config, FirstLightIsFullySupported) {
  const absl::StatusOr<LoadedConfig> loaded = Load(Example("first-light.yaml"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_THAT(
      loaded->warnings,
      ElementsAre(
          "f:4:1: fleet.hash_seed: missing, and the default is known to everybody, who can then "
          "aim at one backend; choose a secret number, the same on every "
          "balancer"));
}

TEST(Config, TunnelsIsValid) {
  EXPECT_THAT(Load(Example("tunnels.yaml"), kSeed).status(), absl::OkStatus());
}

TEST(Config, DefaultsAreFilledIn) {
  const absl::StatusOr<LoadedConfig> loaded = Load(Example("first-light.yaml"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const config::Config& config = loaded->config;
  EXPECT_EQ(config.fleet().hash_seed(), 11400714819323198485u);
  EXPECT_TRUE(config.dataplane().hugepages());
  EXPECT_EQ(config.dataplane().flows_per_worker(), 4194304u);
  EXPECT_EQ(FlowTimeoutsOf(config), FlowTimeouts());
  EXPECT_FALSE(config.dataplane().has_idle());
  EXPECT_THAT(config.dataplane().workers(), IsEmpty());
  EXPECT_EQ(config.interfaces(0).mtu(), 1500u);
  EXPECT_EQ(config.control().socket(), "/run/guideway/guideway.sock");
  EXPECT_FALSE(config.control().has_http());
  EXPECT_EQ(EffectiveRouting(config), config::Routing::static_);

  const config::Service& service = config.services(0);
  EXPECT_EQ(service.scheduler(), config::Scheduler::maglev);
  EXPECT_EQ(TableSize(service), 65537u);
  EXPECT_EQ(service.affinity(), config::Affinity::connection);
  EXPECT_FALSE(service.has_client_prefix());
  EXPECT_EQ(MinHealthyOf(service), 0);
  EXPECT_EQ(service.backends(2).weight(), 100u);
  EXPECT_EQ(service.backends(2).state(), config::AdminState::up);
  const config::HealthCheck& check = service.health_check();
  EXPECT_EQ(ToDuration(check.interval()), absl::Seconds(1));
  EXPECT_EQ(ToDuration(check.timeout()), absl::Milliseconds(500));
  EXPECT_EQ(check.rise(), 2u);
  EXPECT_EQ(check.fall(), 3u);
  EXPECT_EQ(StatusRangeOf(check.http()), (StatusRange{200, 299}));
}

TEST(Config, EdgeLoadsAndNamesWhatIsNotDoneYet) {
  const absl::StatusOr<LoadedConfig> loaded = Load(Example("edge.yaml"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  const config::Config& config = loaded->config;
  EXPECT_EQ(EffectiveRouting(config), config::Routing::kernel);
  EXPECT_EQ(config.services(0).forwarding().gue().port(), 6080u);
  EXPECT_EQ(MinHealthyOf(config.services(0)), 0.3);
  EXPECT_EQ(config.services(0).backends(3).state(), config::AdminState::drain);
  EXPECT_EQ(TableSize(config.services(3)), 0u) << "least_connections";
  EXPECT_EQ(ProbePort(config.services(3), config.services(3).backends(1)), 5433);
  EXPECT_EQ(ProbePort(config.services(4), config.services(4).backends(0)), std::nullopt);
  EXPECT_THAT(PortRangesOf(config.services(4)), ElementsAre(PortRange{0, 65535}));
  EXPECT_EQ(VipsOf(config.services(4))[0].ToString(), "198.51.100.96/28");
  EXPECT_EQ(config.access().deny_size(), 1);

  const std::string warnings = absl::StrJoin(loaded->warnings, "\n");
  for (const char* line : {"f:22:23: interfaces[uplink0].kernel_interface:", "f:119:3: announce:",
                           "f:28:10: routing: this version does not follow the kernel's routes yet",
                           "services[dns].backends[dns-1].address: no route leads to it"}) {
    EXPECT_THAT(warnings, HasSubstr(line));
  }
}

TEST(Config, EveryKindOfProbeIsSupported) {
  for (const char* probe : {"tcp: {}", "http: {}", "https: {}", "https: { verify: true }",
                            "dns: { name: a.example }", "icmp: {}", "udp: {}"}) {
    const auto loaded = Load(
        Changed("ports: [80]", absl::StrCat("ports: [80]\n    health_check: { ", probe, " }")));
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    EXPECT_THAT(loaded->warnings, IsEmpty()) << probe;
  }
}

TEST(Config, WhatIsNotDoneYetIsAWarning) {
  const std::string text = Changed("net_null0 }", "net_null0, kernel_interface: gw0 }");
  const auto fixed = Load("routing: static\n" + text);
  ASSERT_TRUE(fixed.ok()) << fixed.status();
  EXPECT_THAT(fixed->warnings, ElementsAre(HasSubstr("kernel_interface: read and checked, but")));
  for (const bool is_said : {false, true}) {
    const auto kernel = Load(absl::StrCat(is_said ? "routing: kernel\n" : "", text));
    ASSERT_TRUE(kernel.ok()) << kernel.status();
    EXPECT_EQ(kernel->config.routes_size(), 1) << "they have an effect";
    EXPECT_EQ(kernel->warnings.size(), 2u);
    EXPECT_THAT(absl::StrJoin(kernel->warnings, "\n"),
                AllOf(HasSubstr(is_said ? "f:1:10: routing: this version does not follow"
                                        : "kernel_interface: with it routing is kernel, and this"),
                      HasSubstr("kernel_interface: read and checked, but")));
  }
}

TEST(Config, ProtobufJsonUsesTheWordsOfTheFile) {
  const absl::StatusOr<LoadedConfig> loaded = Load(Example("edge.yaml"));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  std::string json;
  ASSERT_TRUE(google::protobuf::util::MessageToJsonString(loaded->config, &json, options).ok());
  for (const char* part :
       {"\"protocol\":\"tcp\"", "\"scheduler\":\"least_connections\"", "\"routing\":\"kernel\"",
        "\"forwarding\":{\"nat\":{}}", "\"state\":\"drain\"", "\"idle\":\"poll\""}) {
    EXPECT_THAT(json, HasSubstr(part));
  }
  config::Config again;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json, &again).ok());
  EXPECT_TRUE(MessageDifferencer::Equals(again, loaded->config));
}

struct WarningRow {
  const char* what;
  std::string from;
  std::string to;
  std::vector<std::string> warnings;
};

TEST(Config, WarningsAreExact) {
  const WarningRow rows[] = {
      {"none", "", "", {}},
      {"no backends",
       "backends:\n      - { name: b1, address: 10.0.0.1 }",
       "backends: []",
       {"f:13:15: services[web].backends: none, so that every packet to the service is dropped"}},
      {"few slots",
       "ports: [80]",
       "ports: [80]\n    table_size: 97",
       {"f:15:9: services[web].backends[b1].weight: its share is only 97 of 97 slots, which makes "
        "for an uneven spread; a table_size of 101 gives it at least 100"}},
      {"less than a slot",
       "10.0.0.1 }",
       "10.0.0.1, weight: 1 }\n      - { name: b2, address: 10.0.0.2, weight: 65535 }\n"
       "      - { name: b3, address: 10.0.0.3, weight: 65535 }",
       {"f:14:48: services[web].backends[b1].weight: its share is less than one of 65537 slots, so "
        "it may get no connections; a table_size of 13107113 gives it at least 100"}},
      {"no route",
       "10.0.0.1 }",
       "10.0.1.1 }",
       {"f:14:30: services[web].backends[b1].address: no route leads to it: packets for it are "
        "dropped (no_next_hop)"}},
      {"a slow probe",
       "ports: [80]",
       "ports: [80]\n    health_check: { tcp: {}, timeout: 2s }",
       {"f:12:39: services[web].health_check.timeout: 2s is longer than the interval of 1s: a "
        "probe without an answer delays the next one"}},
      {"a fast probe",
       "ports: [80]",
       "ports: [80]\n    health_check: { tcp: {}, interval: 100ms }",
       {}},
      {"a backend inside a VIP prefix",
       "198.51.100.10",
       "10.0.0.0/24",
       {"f:14:30: services[web].backends[b1].address: lies in the VIP prefix 10.0.0.0/24"}},
      {"a backend on loopback",
       "10.0.0.1 }",
       "127.0.0.2 }",
       {"f:14:30: services[web].backends[b1].address: a loopback address: probes reach it, "
        "forwarded packets do not",
        "f:14:30: services[web].backends[b1].address: no route leads to it: packets for it are "
        "dropped (no_next_hop)"}},
      {"a tunnel source inside a VIP prefix",
       "198.51.100.10",
       "192.0.2.0/24",
       {"f:6:24: tunnel.source_ipv4: lies in the VIP prefix 192.0.2.0/24"}},
      {"a spread inside a VIP prefix",
       "source_ipv4: 192.0.2.1 }\nservices:\n  - name: web\n    vips: [198.51.100.10]",
       "spread_ipv4: 172.16.1.0/24 }\nservices:\n  - name: web\n    vips: [172.16.0.0/16]",
       {"f:6:24: tunnel.spread_ipv4: lies in the VIP prefix 172.16.0.0/16"}},
      {"a spread and no source", "source_ipv4: 192.0.2.1", "spread_ipv4: 172.16.0.0/16", {}},
      {"what this version does",
       "forwarding: ipip",
       "forwarding: { vxlan: { vni: 7 } }\n    limits: { new_flows_per_second: 5 }",
       {}},
      {"replies", "services:", "dataplane: { replies_per_second: 7 }\nservices:", {}},
      {"no weight",
       "backends:\n      - { name: b1, address: 10.0.0.1 }",
       "scheduler: random\n    backends:\n      - { name: b1, address: 10.0.0.1, weight: 0 }",
       {"f:15:48: services[web].backends[b1].weight: 0 for every backend of the service, so that "
        "no connection finds one (no_backend)"}},
      {"no weight in a region",
       "backends:\n      - { name: b1, address: 10.0.0.1 }",
       "scheduler: geographic\n"
       "    regions: [{ name: eu, prefixes: [] }, { name: us, prefixes: [] }]\n"
       "    default_region: eu\n"
       "    backends:\n"
       "      - { name: b1, address: 10.0.0.1, region: eu }\n"
       "      - { name: b2, address: 10.0.0.2, region: us, weight: 0 }",
       {"f:18:60: services[web].backends[b2].weight: 0 for every backend of region us, so that its "
        "clients go to its fallback"}},
      {"a VIP without backends may nest in another",
       "198.51.100.10",
       "198.51.100.0/24, 198.51.100.1",
       {}},
  };
  for (const WarningRow& row : rows) {
    const absl::StatusOr<LoadedConfig> loaded =
        Load(row.from.empty() ? std::string(kSmall) : Changed(row.from, row.to));
    ASSERT_TRUE(loaded.ok()) << row.what << ": " << loaded.status();
    EXPECT_EQ(loaded->warnings, row.warnings) << row.what;
  }
}

TEST(Config, WaysToWriteAValueThatAreFine) {
  for (const auto& [from, to] : std::vector<std::pair<std::string, std::string>>{
           {"\"02:00:00:00:00:fe\"", "02:00:00:00:00:FE"},  // YAML 1.1: a sexagesimal number
           {"name: web", "name: 12"},
           {"name: web", "name: yes"},
           {"protocol: tcp", "protocol: \"tcp\""},
           {"protocol: tcp", "\"protocol\": tcp"},
           {"ports: [80]", "ports: [\"80\", 8000-8100, \"9000-9001\"]"},
           {"ports: [80]", "ports:\n      - 80\n      - 443"},
           {"ports: [80]", "ports: [80]\n    regions: []"},
           {"ports: [80]", "ports: [80]\n    min_healthy: 0.0%"},
           {"forwarding: ipip", "forwarding: { ipip: {} }"},
           {"forwarding: ipip", "forwarding:\n      vxlan: { vni: 7 }"},
           {"fleet: { hash_seed: 7 }", "fleet: { hash_seed_file: seed }"},
           {"fleet: { hash_seed: 7 }", "---\nfleet: { hash_seed: 7 }"},
           {"services:", "access: { deny: [] }\nservices:"},
           {"services:", "access: { allow: [10.0.0.0/8], deny_files: [f] }\nservices:"},
           {"net_null0", "\"0000:3B:00.0\""},
           {"net_null0", "\"3b:00.0,arg=1\""},
           {"net_null0", "\"net_virtio_user_up,path=/dev/vhost-net\""},
       }) {
    const std::string text = Changed(from, to);
    const absl::StatusOr<LoadedConfig> loaded =
        Load(text, {{"f", "192.0.2.0/24\n"}, {"seed", "8"}});
    ASSERT_TRUE(loaded.ok()) << to << ": " << loaded.status();
    EXPECT_THAT(loaded->warnings, IsEmpty()) << to;
  }
  std::string crlf(kSmall);
  for (size_t at = 0; (at = crlf.find('\n', at)) != std::string::npos; at += 2) {
    crlf.replace(at, 1, "\r\n");
  }
  EXPECT_TRUE(Load(crlf).ok());
  EXPECT_TRUE(Load("\xef\xbb\xbf" + std::string(kSmall)).ok());
  EXPECT_TRUE(Load(std::string(kSmall) + "...\n").ok());
}

TEST(Config, ErrorsAreBounded) {
  std::string text(kSmall);
  for (int i = 0; i < 5000; ++i) absl::StrAppend(&text, "key", i, ": 1\n");
  const absl::StatusOr<LoadedConfig> loaded = Load(text);
  ASSERT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
  const std::vector<std::string> lines = absl::StrSplit(loaded.status().message(), '\n');
  ASSERT_EQ(lines.size(), kMaxConfigErrors + 1);
  EXPECT_THAT(lines[0], HasSubstr("f:15:1: key0: unknown key"));
  EXPECT_EQ(lines.back(), "f:64:1: … and at least 950 more");
}

TEST(Config, LongTextsInErrorsAreCut) {
  const absl::StatusOr<LoadedConfig> loaded =
      Load(Changed("protocol: tcp", "protocol: " + std::string(100000, 'x')));
  ASSERT_FALSE(loaded.ok());
  EXPECT_LT(loaded.status().message().size(), 300u);
}

TEST(Config, HostileTextsAreRefusedQuickly) {
  std::string nul(1 << 20, '\0');
  std::string slashes = "a: \"" + std::string(1 << 20, '\\');
  std::string brackets(1 << 20, '[');
  std::string braces, dashes, questions, lines, flow = "a: [";
  for (int i = 0; i < 100000; ++i) {
    braces += "{a: ";
    dashes += "- ";
    questions += "? ";
    lines += "\n b";
  }
  while (flow.size() < (9u << 20)) flow += "a list in one piece, ";
  for (const std::string& text :
       {nul, slashes, brackets, braces, dashes, questions, "a: b" + lines, flow,
        std::string(9 << 20, '\n'), std::string(kMaxConfigBytes + 1, ' ')}) {
    const absl::StatusOr<LoadedConfig> loaded = Load(text);
    EXPECT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_TRUE(absl::StartsWith(loaded.status().message(), "f:"));
  }
}

TEST(Config, PrintsAsOneThatLoadsAgainAndIsEqual) {
  for (const char* name : {"first-light.yaml", "edge.yaml", "tunnels.yaml"}) {
    const absl::StatusOr<LoadedConfig> loaded = Load(Example(name), kSeed);
    ASSERT_TRUE(loaded.ok()) << loaded.status();
    const std::string yaml = RenderYaml(loaded->config);
    const absl::StatusOr<LoadedConfig> again = Load(yaml, kSeed);
    ASSERT_TRUE(again.ok()) << again.status() << "\n" << yaml;
    EXPECT_TRUE(MessageDifferencer::Equals(again->config, loaded->config)) << yaml;
  }
}

// Every line of `message` starts with «f:LINE:COLUMN: » inside `text`.
void ExpectPlacesInside(const std::string& text, absl::string_view message) {
  const std::vector<absl::string_view> lines = absl::StrSplit(text, '\n');
  for (const absl::string_view finding : absl::StrSplit(message, '\n')) {
    const std::vector<absl::string_view> parts = absl::StrSplit(finding, absl::MaxSplits(':', 3));
    ASSERT_EQ(parts.size(), 4u) << finding;
    ASSERT_EQ(parts[0], "f") << finding;
    size_t line = 0, column = 0;
    ASSERT_TRUE(absl::SimpleAtoi(parts[1], &line) && absl::SimpleAtoi(parts[2], &column))
        << finding;
    ASSERT_GE(line, 1u) << finding;
    ASSERT_LE(line, lines.size()) << finding;
    ASSERT_GE(column, 1u) << finding;
    ASSERT_LE(column, lines[line - 1].size() + 1) << finding;
  }
}

TEST(Config, MutatedExamplesNeverCrashAndErrorsHaveAPlace) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  const auto below = [&](size_t n) {
    return std::uniform_int_distribution<size_t>(0, n - 1)(random);
  };
  const std::string examples[] = {Example("first-light.yaml"), Example("edge.yaml")};
  const std::string pieces[] = {
      ":",     "- ",    "{",      "}",    "[",        "]",    "\n",   "  ",  "\t",
      "\"",    "'",     "#",      "&a ",  "*a",       "!",    "|\n",  ">\n", "? ",
      "---\n", "...\n", "<<: ",   "~",    "%",        "\r\n", "\\",   "0",   "-1",
      "null",  "1e9",   "100000", "\xff", "\xc3\xa9", ", ",   "name", "any", "nat"};
  int loaded_count = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string text = examples[below(2)];
    const size_t changes = 1 + below(4);
    for (size_t change = 0; change < changes; ++change) {
      const size_t at = below(text.size());
      switch (below(6)) {
        case 0: text.erase(at, 1 + below(10)); break;
        case 1: text.insert(at, pieces[below(std::size(pieces))]); break;
        case 2: text[at] = static_cast<char>(below(256)); break;
        case 3: text.insert(at, text.substr(below(text.size()), below(200))); break;
        case 4: std::swap(text[at], text[below(text.size())]); break;
        case 5: text.resize(at + 1); break;
      }
      if (text.empty()) text = "\n";
    }
    const absl::StatusOr<LoadedConfig> loaded = Load(text);
    if (!loaded.ok()) {
      ASSERT_EQ(loaded.status().code(), absl::StatusCode::kInvalidArgument);
      ExpectPlacesInside(text, loaded.status().message());
    } else {
      ++loaded_count;
      const std::string yaml = RenderYaml(loaded->config);
      const absl::StatusOr<LoadedConfig> again = Load(yaml);
      ASSERT_TRUE(again.ok()) << again.status() << "\n" << text << "\n" << yaml;
      ASSERT_TRUE(MessageDifferencer::Equals(again->config, loaded->config)) << text << yaml;
      for (const std::string& line : loaded->warnings) {
        ExpectPlacesInside(text, absl::string_view(line));
      }
    }
    if (HasFatalFailure()) {
      ADD_FAILURE() << text;
      return;
    }
  }
  EXPECT_GT(loaded_count, 100) << "most mutations should not be the end of it";
}

TEST(Config, FilesThatCannotBeRead) {
  const std::string directory = testing::TempDir();
  absl::StatusOr<LoadedConfig> loaded = LoadConfigFile(directory + "/no-such-file.yaml");
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("no-such-file.yaml"));

  loaded = LoadConfigFile(directory);
  EXPECT_EQ(loaded.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("it is a directory"));

  const std::string path = absl::StrCat(directory, "/config_test.", getpid(), ".yaml");
  std::ofstream(path) << kSmall;
  EXPECT_TRUE(LoadConfigFile(path).ok());
  std::ofstream(path) << "a: b\n";
  loaded = LoadConfigFile(path);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr(path + ":1:1: a: unknown key"));
  if (geteuid() != 0) {
    ASSERT_EQ(chmod(path.c_str(), 0), 0);
    EXPECT_EQ(LoadConfigFile(path).status().code(), absl::StatusCode::kPermissionDenied);
  }
  ASSERT_EQ(unlink(path.c_str()), 0);
}

// The verdict on an address; «nobody» when no prefix contains it.
std::string VerdictOn(const LoadedConfig& loaded, const std::string& address) {
  const uint32_t value = loaded.access->Find(IpAddress::Parse(address).value());
  if (value == PrefixMap::kNone) return "nobody";
  return value == static_cast<uint32_t>(Access::kDeny) ? "deny" : "allow";
}

TEST(Config, AccessListsAndTheirFilesAreOneMap) {
  std::string text = Changed("services:",
                             "access:\n"
                             "  deny: [10.0.0.0/8, 10.0.0.0/8, 192.0.2.1]\n"
                             "  deny_files: [sub/deny.txt, /etc/deny.txt]\n"
                             "  allow: [10.1.0.0/16, 192.0.2.1]\n"
                             "  allow_files: [allow.txt]\n"
                             "services:");
  const std::map<std::string, std::string> files = {
      {"etc/sub/deny.txt", "# a comment\n\n\t172.16.0.0/12\r\n2001:db8::/32 # all\n10.0.0.0/8\n"},
      {"/etc/deny.txt",
       "\xef\xbb\xbf"
       "203.0.113.7"},
      {"home/allow.txt", "172.16.0.0/12#again\n2001:db8::1\n"},
      {"etc/allow.txt", "172.16.0.0/12#again\n2001:db8::1\n"},
      {"home/sub/deny.txt", ""},
  };
  const absl::StatusOr<LoadedConfig> loaded = LoadConfig("etc/f.yaml", text, TestFiles(files));
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  for (const auto& [address, verdict] : std::map<std::string, std::string>{
           {"10.9.9.9", "deny"},
           {"10.1.2.3", "allow"},
           {"192.0.2.1", "allow"},   // in both
           {"172.16.0.1", "allow"},  // in both, of the files
           {"2001:db8::2", "deny"},
           {"2001:db8::1", "allow"},
           {"203.0.113.7", "deny"},
           {"203.0.113.8", "nobody"},
       }) {
    EXPECT_EQ(VerdictOn(*loaded, address), verdict) << address;
  }
  const auto applied = LoadConfig("elsewhere/f.yaml", text, TestFiles(files), "home/guideway.yaml");
  ASSERT_TRUE(applied.ok()) << applied.status();
  EXPECT_EQ(VerdictOn(*applied, "2001:db8::2"), "nobody") << "the home's files are meant";
}

TEST(Config, WithoutADenialThereIsNoAccessList) {
  EXPECT_EQ(Load(std::string(kSmall))->access, nullptr);
  const auto loaded = Load(Changed("services:", "access: { deny_files: [f] }\nservices:"),
                           {{"f", "# nobody yet\n"}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->access, nullptr);
  const auto both =
      Load(Changed("services:", "access: { deny: [10.0.0.1], allow: [10.0.0.1] }\nservices:"));
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->access, nullptr);
}

TEST(Config, QuicIdsNameTheBackendsInTheTablesOrder) {
  const std::string text = Changed(
      "ports: [80]\n    forwarding: ipip\n    backends:\n",
      "ports: [80]\n    forwarding: ipip\n"
      "    quic: { configs: [{ id: 1, server_id_length: 2, nonce_length: 4 },\n"
      "                      { id: 2, server_id_length: 2, nonce_length: 4, key_file: key }] }\n"
      "    backends:\n      - { name: z, address: 10.0.0.9, quic_server_id: \"C46f\" }\n"
      "      - { name: a, address: 10.0.0.8 }\n");
  std::string udp = text;
  udp.replace(udp.find("tcp"), 3, "udp");
  udp.replace(udp.find("10.0.0.1 }"), 10, "10.0.0.1, quic_server_id: \"0102\" }");
  const auto loaded = Load(udp, {{"key", "\n 8f95f09245765f80256934e50c66207f \n"}});
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  ASSERT_EQ(loaded->quic.size(), 1u);
  const auto find = [&](std::vector<uint8_t> id) { return loaded->quic[0]->Find(id); };
  // a, b1, z
  EXPECT_EQ(find({0x20, 0xc4, 0x6f, 9, 9, 9, 9}), 2u);
  EXPECT_EQ(find({0x20, 0x01, 0x02, 9, 9, 9, 9}), 1u);
  EXPECT_EQ(find({0x20, 0x01, 0x03, 9, 9, 9, 9}), QuicLb::kNone);
  EXPECT_EQ(find({0x40, 0x01, 0x02, 9, 9, 9, 9}), QuicLb::kNone) << "encrypted";
  EXPECT_EQ(Load(std::string(kSmall))->quic[0], nullptr);
}

TEST(Config, NamedFilesAreRegular) {
  const std::string directory = absl::StrCat(testing::TempDir(), "/named.", getpid());
  ASSERT_EQ(mkdir(directory.c_str(), 0700), 0);
  const std::string fifo = directory + "/fifo";
  ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
  const std::string file = directory + "/deny.txt";
  std::ofstream(file) << "10.0.0.0/8\n";
  const std::string config = directory + "/f.yaml";
  const auto load = [&](const std::string& named) {
    std::ofstream(config) << Changed("services:",
                                     "access: { deny_files: [\"" + named + "\"] }\nservices:");
    return LoadConfigFile(config);
  };
  for (const auto& [named, why] : std::map<std::string, std::string>{
           {"/dev/zero", "it is a device"},
           {".", "it is a directory"},
           {"fifo", "it is a pipe"},
           {"no", "No such file or directory"},
       }) {
    EXPECT_THAT(std::string(load(named).status().message()),
                HasSubstr(absl::StrCat(": ", why, "; allowed: a regular file")));
  }
  EXPECT_THAT(std::string(load("no").status().message()),
              HasSubstr(absl::StrCat(config, ":7:24: access.deny_files[0]: cannot read ", directory,
                                     "/no: ")));
  ASSERT_EQ(truncate(file.c_str(), kMaxConfigBytes + 1), 0);
  EXPECT_THAT(std::string(load("deny.txt").status().message()),
              HasSubstr("it is larger than 64 MiB"));
  ASSERT_EQ(truncate(file.c_str(), 11), 0);
  const auto loaded = load("deny.txt");
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(VerdictOn(*loaded, "10.1.1.1"), "deny");
  for (const std::string& path : {fifo, file, config}) ASSERT_EQ(unlink(path.c_str()), 0);
  ASSERT_EQ(rmdir(directory.c_str()), 0);
}

TEST(Config, HashSeedFromAFile) {
  std::string contents;
  std::string asked;
  const auto load = [&] {
    return LoadConfig("etc/f", Changed("hash_seed: 7", "hash_seed_file: seed"),
                      [&](const std::string& path) -> absl::StatusOr<std::string> {
                        asked = path;
                        if (contents == "none") return absl::NotFoundError("No such file");
                        return contents;
                      });
  };
  contents = " 18446744073709551615\n";
  ASSERT_TRUE(load().ok()) << load().status();
  EXPECT_EQ(asked, "etc/seed");
  EXPECT_EQ(load()->hash_seed, 18446744073709551615u);
  for (const char* bad : {"", "0x10\n", "-1\n", "1 2\n", "18446744073709551616\n", "hunter2"}) {
    contents = bad;
    EXPECT_EQ(std::string(load().status().message()),
              "etc/seed:1:1: found no hash seed; allowed: one decimal number from 0 to "
              "18446744073709551615")
        << bad;
  }
  contents = "none";
  EXPECT_THAT(std::string(load().status().message()),
              AllOf(StartsWith("etc/f:"),
                    HasSubstr("fleet.hash_seed_file: cannot read etc/seed: No such file")));
  EXPECT_EQ(Load(std::string(kSmall))->hash_seed, 7u);
}

// Errors go to everybody who may ask for the status, and a path may be wrong.
TEST(Config, ErrorsShowNoLineThatIsNotLikeAPrefix) {
  const std::string text = absl::StrCat(std::string(kSmall), "access: { deny_files: [list] }\n");
  const auto error_of = [&](const std::string& line) {
    const auto loaded = LoadConfig("f", text, [&](const std::string&) { return line + "\n"; });
    return std::string(loaded.status().message());
  };
  for (const char* secret : {"root:$6$salt$hash:19000:0:99999:7:::", "daemon:*:19000:0:99999:7:::",
                             "8190443025772104713", "8f95f09245765f80256934e50c66207f",
                             "-----BEGIN PRIVATE KEY-----", "password=a.b"}) {
    EXPECT_THAT(error_of(secret), StartsWith("list:1:1: found what is no prefix; allowed: one "
                                             "prefix a line, such as "));
    EXPECT_THAT(error_of(secret), Not(HasSubstr(secret)));
  }
  for (const char* shown : {"10.0.0.0/33", "10.0.0.256", "2001:db8::1::/64"}) {
    EXPECT_THAT(error_of(shown), StartsWith(absl::StrCat("list:1:1: found ", shown, "; allowed")));
  }
  EXPECT_THAT(error_of("10.0.0.0/8 secret"),
              StartsWith("list:1:1: found 10.0.0.0/8 and more behind it; allowed"));
}

}  // namespace
}  // namespace guideway
