#include "control/source.h"

#include <openssl/evp.h>

#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace guideway {

std::string Sha256(absl::string_view bytes) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  CHECK_EQ(EVP_Digest(bytes.data(), bytes.size(), digest, &size, EVP_sha256(), nullptr), 1);
  return absl::BytesToHexString(absl::string_view(reinterpret_cast<const char*>(digest), size));
}

// A digest of digests, so that no two lists of texts run into each other.
std::string DigestOf(absl::string_view text, const FileContents& files) {
  std::string all = Sha256(text);
  for (const auto& [path, contents] : files) absl::StrAppend(&all, Sha256(path), Sha256(contents));
  return Sha256(all);
}

absl::StatusOr<LoadedSource> LoadSource(std::string name, std::string text, std::string home,
                                        const FileReader& read) {
  auto source = std::make_shared<ConfigSource>();
  source->name = std::move(name);
  source->home = std::move(home);
  source->text = std::move(text);
  FileContents files;
  const FileReader remember = [&](const std::string& path) {
    absl::StatusOr<std::string> contents = read(path);
    if (contents.ok()) files[path] = *contents;
    return contents;
  };
  absl::StatusOr<LoadedConfig> config =
      LoadConfig(source->name, source->text, remember, source->home);
  if (!config.ok()) return config.status();
  source->digest = DigestOf(source->text, files);
  source->files = std::make_shared<const FileContents>(std::move(files));
  return LoadedSource{*std::move(config), std::move(source)};
}

absl::StatusOr<LoadedSource> LoadSourceFile(const std::string& path) {
  absl::StatusOr<std::string> text = ReadConfigFile(path);
  if (!text.ok()) return text.status();
  return LoadSource(path, *std::move(text), path);
}

absl::StatusOr<LoadedSource> LoadSource(const ConfigSource& source) {
  return LoadSource(source.name, source.text, source.home,
                    [&](const std::string& path) -> absl::StatusOr<std::string> {
                      const auto found = source.files->find(path);
                      if (found != source.files->end()) return found->second;
                      return absl::NotFoundError("it was not kept with the revision");
                    });
}

}  // namespace guideway
