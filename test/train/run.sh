#!/bin/bash
# scripts/train: the simulation against splitctl, and a fine-tuning of seconds.
#
#   test/train/run.sh [BUILD]     from the project's root, after make
set -u

# Debian's, whose torch others may shadow.
python=/usr/bin/python3
if ! $python -c 'import onnx, torch' 2>/dev/null; then
    echo "skipped: python3-torch or python3-onnx is not installed (scripts/install-deps train)"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
exec $python -W ignore test/train/test_train.py "${1:-build}"
