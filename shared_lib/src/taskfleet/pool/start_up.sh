#!/bin/bash
# The start-up script of a machine. taskfleet.pool.start_up fills in the lines that begin with #@, and removes comments and leading spaces,
# so the script must not depend on leading spaces.
#@settings

set -u
umask 022
export HOME="${HOME:-/root}" LC_ALL="${LC_ALL:-C.UTF-8}"
export PATH="$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:$HOME/.local/bin"
state=/var/lib/taskfleet
logs=/var/log/taskfleet
mkdir -p "$state" "$logs"
if (: >>/dev/console) 2>/dev/null; then exec 3>>/dev/console; else exec 3>&1; fi
exec </dev/null >>"$logs/boot.log" 2>&1

# --- progress on the console ---

read -r up _ </proc/uptime
began=$((10#${up/./}))
stage=start

# say TEXT: print a line to the console, with the time since the start
say() {
  local up n
  read -r up _ </proc/uptime
  n=$((10#${up/./} - began))
  printf -v up 'taskfleet-boot: %d.%d s  stage=%s  %s' $((n / 100)) $((n % 100 / 10)) "$stage" "$*"
  echo "$up"
  echo "$up" >&3
}

# show_last FILE: print the last lines of a file to the console
show_last() {
  tail -n 20 "$1" | cut -c 1-240 | sed 's/^/taskfleet-said: /' >&3
}

# terminate: power off. On Compute Engine, a stopped instance still exists and its disk is paid for, so the machine deletes itself first.
terminate() {
  if [ "$provider" = gcp ] && ! on_machine delete; then say "the machine could not delete itself"; fi
  power_off
}

# --- the self-destruct timer ---

hard_off() {
  poweroff -f
  halt -f -p
  echo 1 >/proc/sys/kernel/sysrq
  echo o >/proc/sysrq-trigger
}

power_off() {
  sync
  shutdown -P now || poweroff
  sleep 30
  hard_off
}

# The deadline is stored in a file, so that a reboot does not restart the timer.
set_timer() {
  local now left=$lifetime
  now=$(date +%s)
  if [ -s "$state/deadline" ]; then left=$(($(cat "$state/deadline") - now)); fi
  if [ "$left" -gt "$lifetime" ]; then left=$lifetime; fi
  if [ "$left" -lt 1 ]; then left=1; fi
  echo $((now + left)) >"$state/deadline"
  (
    trap '' HUP INT
    { echo -1000 >/proc/self/oom_score_adj; } 2>/dev/null
    # shellcheck disable=SC2016
    exec setsid bash -c "$(declare -f say hard_off power_off)"'
      began=$1 stage=lifetime
      sleep "$2"
      say "failed  the lifetime is over, powering off"
      power_off' taskfleet-timer "$began" "$left"
  ) &
  shutdown -P "+$(((left + 59) / 60))"
  # Compute Engine runs this script at every boot. On EC2, cloud-init does so for scripts in this folder.
  if [ "$provider" = aws ] && [ -d /var/lib/cloud/scripts/per-boot ]; then
    install -m 755 "$0" /var/lib/cloud/scripts/per-boot/taskfleet
  fi
  say "ok  set to $left s"
}

stage=timer
say begun
set_timer

# --- running stages ---

# give_up REASON [FILE]: print the reason and the last lines of a file, and power off after some time for inspection
give_up() {
  trap - EXIT
  stage=end
  say "failed  $1, powering off in $linger s"
  if [ -n "${2:-}" ]; then show_last "$2"; fi
  sleep "$linger"
  terminate
  exit 1
}

# A forked shell that is killed early can still have this trap.
trap 'if [ "$BASHPID" = $$ ]; then give_up "the start-up script itself ended" "$logs/boot.log"; fi' EXIT

# Print the last line of a long stage every minute.
report_long_stages() {
  local now before=
  while sleep 30; do
    now=$(cat "$logs/now")
    if [ -n "$now" ] && [ "$now" = "$before" ]; then
      stage=$now
      say "still: $(tail -n 1 "$logs/stage" | cut -c 1-160)"
    fi
    before=$now
  done
}
: >"$logs/now"
report_long_stages &

# run_stage STAGE COMMAND...: run a command in its own shell, and print the end of its output if it fails
run_stage() {
  local code
  stage=$1
  shift
  say begun
  : >"$logs/stage"
  echo "$stage" >"$logs/now"
  ("$@") >"$logs/stage" 2>&1 3>&-
  code=$?
  : >"$logs/now"
  cat "$logs/stage"
  if [ "$code" = 0 ]; then say ok; else say "failed  code=$code"; show_last "$logs/stage"; fi
  return "$code"
}

# require STAGE COMMAND...: run_stage, and terminate the machine if it fails
require() {
  run_stage "$@" || give_up "$1 failed"
}

# retry COMMAND...: up to four attempts, with pauses
retry() {
  local pause
  for pause in 2 5 15 0; do
    "$@" && return
    [ "$pause" = 0 ] || sleep "$pause"
  done
  return 1
}

# The user's variables, as NAME=value. They never become variables of this script, so that no name can break it. It is not empty, because
# bash 4.3 and older would call it unset.
own=(_=)

# with COMMAND...: run a program with the user's variables
with() { env "${own[@]}" "$@"; }

# A failed hook prints the line that failed. Hooks can set variables for later stages by writing to the file $TASKFLEET_EXPORTS.
run_hook() {
  case $(head -n 1 "$1") in
    '#!'*sh*) ;;
    '#!'*)
      chmod +x "$1"
      exec env "${own[@]}" "$1"
      ;;
  esac
  # shellcheck disable=SC2016
  exec env "${own[@]}" bash -c 'set -eE
    trap '\''echo "${BASH_SOURCE[0]##*/}, line $LINENO: $BASH_COMMAND ended with $?" >&2'\'' ERR
    . "$1"' hook "$1"
}

load_exports() {
  [ -s "$TASKFLEET_EXPORTS" ] || return 0
  # shellcheck disable=SC2016
  while IFS= read -rd '' one; do
    case $one in
      TASKFLEET_* | *PWD=*) ;;
      *) own+=("$one") ;;
    esac
  done < <(with bash -c 'set -a; . "$1"; exec env -0' _ "$TASKFLEET_EXPORTS")
}

hook() {
  if [ -s "$state/$1" ]; then
    run_stage "$1" run_hook "$state/$1" || return
    load_exports
  fi
}

# --- environment and files ---

export TASKFLEET_EXPORTS=$state/exports
: >"$TASKFLEET_EXPORTS"
export TASKFLEET_PROVIDER=$provider TASKFLEET_BUNDLE=$bundle TASKFLEET_CODE=$address
#@data

if [ -s "$state/own" ]; then
  trap - EXIT
  run_stage own run_hook "$state/own"
  exit
fi

# --- stages ---

python() {
  if command -v python3 >/dev/null; then with python3 "$@"; else with uv run --no-project python "$@"; fi
}

on_machine() { python "$state/on_machine.py" "$@"; }

download() {
  if command -v curl >/dev/null; then with curl -LsSf --max-time 120 -o "$2" "$1"; else with wget -q -T 120 -O "$2" "$1"; fi
}

install_uv() {
  if command -v uv; then return; fi
  export UV_INSTALL_DIR=/usr/local/bin UV_NO_MODIFY_PATH=1
  retry download https://astral.sh/uv/install.sh "$state/install-uv" && retry with sh "$state/install-uv" && command -v uv
}

find_identity() {
  on_machine identity "$provider" >"$state/identity"
}

unpack() {
  rm -rf "$project.part" && mkdir -p "$project.part" && tar -xzf "$state/bundle.tar.gz" -C "$project.part" --no-same-owner &&
    rm -rf "$project" && mv "$project.part" "$project"
}

install_git() {
  command -v git && return
  if command -v apt-get; then
    with apt-get -q update && with DEBIAN_FRONTEND=noninteractive apt-get -qy install git
  else
    with dnf -qy install git || with yum -qy install git
  fi
}

# Branches, tags and full commit hashes are fetched alone; other revisions need the whole history.
clone() {
  local remote=$1 revision=$2
  export GIT_TERMINAL_PROMPT=0
  rm -rf "$project" && mkdir -p "$project" && cd "$project" && git init -q || return
  if with git fetch -q --depth 1 -- "$remote" "$revision"; then
    git checkout -q --detach FETCH_HEAD
  else
    with git fetch -q --tags -- "$remote" '+refs/heads/*:refs/remotes/origin/*' && {
      git checkout -q --detach "$revision" -- 2>/dev/null || git checkout -q --detach "origin/$revision" --
    }
  fi && with git submodule -q update --init --recursive
}

get_project() {
  case $code_from in
    bundle) on_machine fetch "$address" "$bundle" "$state/bundle.tar.gz" "$region" && unpack ;;
    git) retry install_git && retry clone "$address" "$revision" ;;
  esac || return
  if [ ! -f "$project/run.py" ]; then
    echo "there is no run.py in $project"
    return 1
  fi
}

# An image can have a complete environment and no internet access. The project's library says which packages only the user's computer
# needs; if it cannot, all are installed.
install_packages() {
  cd "$project" || return
  if [ "$code_from" = image ] && [ -x .venv/bin/python ]; then return; fi
  local skip=()
  if retry with uv venv -q --allow-existing; then
    mapfile -t skip < <(with env PYTHONPATH=shared_lib/src .venv/bin/python -m taskfleet.pool.worker_packages ${queue_package:+"$queue_package"})
  fi
  retry with uv sync --frozen --no-dev ${skip[@]+"${skip[@]}"}
}

# A reader copies the worker's output. It is killed soon after the worker has ended, because processes left by tasks keep the pipe open.
work() {
  local reader result
  rm -f "$state/output"
  mkfifo "$state/output"
  on_machine relay "$logs/worker.log" <"$state/output" >&3 &
  reader=$!
  env "${own[@]}" uv run --frozen --no-dev python run.py >"$state/output" 2>&1 3>&- &
  worker=$!
  wait "$worker"
  result=$?
  # A signal to this script is forwarded and interrupts the first wait; the worker needs time to stop.
  while kill -0 "$worker" 2>/dev/null; do
    wait "$worker"
    result=$?
  done
  for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$reader" 2>/dev/null || break
    sleep 0.2
  done
  kill "$reader" 2>/dev/null
  return "$result"
}

project=/opt/taskfleet/project
if [ "$code_from" = image ]; then project=/opt/project; fi

hook before_start_up || give_up "before_start_up failed"
require uv install_uv
require machine find_identity
read -r TASKFLEET_MACHINE machine_region <"$state/identity"
export TASKFLEET_MACHINE
if [ -n "${machine_region:-}" ]; then
  export AWS_REGION="${AWS_REGION:-${AWS_DEFAULT_REGION:-$machine_region}}"
  export AWS_DEFAULT_REGION="${AWS_DEFAULT_REGION:-$AWS_REGION}"
  region=${region:-$machine_region}
fi
say "machine $TASKFLEET_MACHINE"
require project get_project
if [ "$code_from" = git ]; then
  TASKFLEET_BUNDLE=git:$(git -C "$project" rev-parse HEAD)
  export TASKFLEET_BUNDLE
fi
require packages install_packages
cd "$project" || give_up "there is no $project"
# "uv run" must not install what was left out, also in hooks
export UV_NO_SYNC=1 PYTHONUNBUFFERED=1
hook before_worker || give_up "before_worker failed"
worker=
trap 'if [ -n "$worker" ]; then kill -TERM "$worker"; fi' TERM INT
for attempt in $(seq $((restarts + 1))); do
  stage=worker
  say "begun  attempt $attempt"
  work
  result=$?
  worker=
  # 130, 143: it was asked to stop. 2: wrong settings or code; a restart would fail as well
  case $result in 0 | 2 | 130 | 143) break ;; esac
  say "ended with $result"
  sleep "$restart_pause"
done
case $result in
  0 | 130 | 143) say "ok  code=$result" ;;
  2) say "failed  code=2, wrong settings, code or packages" ;;
  *) say "failed  code=$result, $attempt attempts" ;;
esac
hook after_worker
case $result in
  0 | 130 | 143) ;;
  *) give_up "the worker failed" ;;
esac
trap - EXIT
stage=end
say "ok  powering off"
terminate
