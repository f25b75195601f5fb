# SPDX-License-Identifier: Apache-2.0
"""For each recorded method: what runs the authors' code on recorded inputs."""
