"""Kubernetes clusters as providers: a `RayJob` where KubeRay is there, else an indexed `Job` that forms its own Ray."""
