# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# `./exeunt release`: a repository that Maven Central would take, in a folder (docs/release.md).
# Sourced by the launcher.

# What is published; the rest is what these are built and tested with.
PUBLISHED=bom,platform,jni-gen,java,onnxruntime,jlama

run_release() {
  local words stage version key partial previous jdk25 modules=$PUBLISHED properties missing=()
  words=$(FROM=$FROM launcher/release.py options "$@") || exit $?
  { read -r stage; read -r version; read -r key; read -r partial; read -r previous || true; } <<<"$words"
  lock_tree exclusive release
  ensure_packages "${BUILD_NEEDS[@]}" 'command gpg:gpg'
  properties=("-Drevision=$version" "-DaltDeploymentRepository=stage::file://$stage"
    -DskipTests -Dmaven.test.skip=true -Dexeunt.native.tests=OFF -Dexeunt.cuda.archs=release)
  jdk25=$(jdk25_home)
  if [[ -z $jdk25 ]]; then
    missing+=(exeunt-jlama)
    modules=${modules%,jlama}
  fi
  if [[ -z $partial ]]; then
    ensure_cuda
  else
    properties+=(-Dexeunt.cuda=OFF)
  fi
  if [[ -z $partial ]]; then
    refuse_missing
    tests/packaging/check_abi.py "$ROOT" cc --release "$version" >&2 || die 1 'the C ABI is another'
  fi
  say "building the release $version (the log is build/release.log)"
  mkdir -p build/release "$stage"
  if ! maven -Prelease "${properties[@]}" -pl "$modules" -am deploy 2>&1 | tee build/release.log |
    show_steps; then
    tail -n 30 build/release.log >&2
    die 1 'the build failed; the log is build/release.log'
  fi
  add_platforms
  refuse_missing
  launcher/linked.py sbom "$stage" "$version" || die 1 'what is linked into the libraries is not known'
  launcher/release.py finish "$stage" "$key" || die 1 'the release could not be signed'
  compare_api
  tests/packaging/check_release.py "$stage" ${partial:+--partial} ||
    die 1 "the release in $stage is not fit to be published; the reasons are above"
  tests/packaging/stranger_test.py "$ROOT" "$stage" "$version" ||
    die 1 "a program that depends on the release in $stage fails; the reason is above"
  if [[ -n $partial ]]; then
    say "staged in $stage, in part: not to be published"
  elif [[ -z $key ]]; then
    say "staged in $stage, signed by a key that was thrown away: not to be published"
  else
    launcher/release.py bundle "$stage" "$version"
    say "staged in $stage; what to upload is $stage/exeunt-$version-bundle.zip (docs/release.md)"
  fi
}

# Says what is missing so far, and ends unless that was asked for.
refuse_missing() {
  ((${#missing[@]})) || return 0
  [[ -n $partial ]] || die 1 "the release would lack ${missing[*]}; --partial makes one without"
  say "the release lacks ${missing[*]}"
}

# The jars of the platforms that this machine builds for others, as far as they are what they should be.
add_platforms() {
  local platform jar place=$stage/org/exeunt/exeunt-jni/$version
  [[ -z $partial ]] || missing+=(linux-x86_64-cuda)
  for platform in $(launcher/release.py platforms); do
    jar=build/release/$platform.jar
    rm -f "$jar"
    if { launcher/platform.sh "$platform" "$ROOT/$jar" &&
      tests/packaging/check_platform.py "$platform" "$jar"; } >>build/release.log 2>&1; then
      cp "$jar" "$place/exeunt-jni-$version-$platform.jar"
    else
      missing+=("$platform")
    fi
  done
}

# Programs that were written for the last release compile and run, as far as the version promises it.
compare_api() {
  local last strict artifact folder=$ROOT/build/release/api
  { read -r last; read -r strict || true; } < <(launcher/release.py last "$version" "$previous")
  [[ -n $strict ]] && strict=true || strict=false
  if [[ -z $last ]]; then
    say 'there is no release yet to be compatible with'
    return
  fi
  rm -rf "$folder"
  mkdir -p "$folder"/{old,new}
  for artifact in exeunt exeunt-jni; do
    cp "$stage/org/exeunt/$artifact/$version/$artifact-$version.jar" "$folder/new/$artifact.jar"
    if [[ -n $previous ]]; then
      cp "$previous/org/exeunt/$artifact/$last/$artifact-$last.jar" "$folder/old/$artifact.jar"
    else
      maven --non-recursive dependency:copy "-Dartifact=org.exeunt:$artifact:$last" \
        -Dmdep.stripVersion=true "-DoutputDirectory=$folder/old" >>build/release.log 2>&1 ||
        die 1 "$artifact $last could not be fetched; the log is build/release.log"
    fi
  done
  for artifact in exeunt exeunt-jni; do
    if ! maven -Pcompatibility --non-recursive "-Dexeunt.old.jar=$folder/old/$artifact.jar" \
      "-Dexeunt.new.jar=$folder/new/$artifact.jar" "-Dexeunt.strict=$strict" \
      com.github.siom79.japicmp:japicmp-maven-plugin:cmp >"$folder/$artifact.log" 2>&1; then
      grep -m 1 '^\[ERROR\]' "$folder/$artifact.log" >&2 || true
      die 1 "$artifact $version breaks what was written for $last; $folder/japicmp says all of it"
    fi
  done
  say "the API is compatible with that of $last, as far as $version promises it"
}
