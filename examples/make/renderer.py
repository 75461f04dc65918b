"""Path tracing of a view with Mitsuba 3."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import drjit
import mitsuba
import numpy as np
from numpy.typing import NDArray

from examples.make.denoise import denoise
from examples.make.scene import Camera, Light, Material, Vector, View
from examples.make.shapes import Mesh, Points
from examples.make.surfaces import Texture

mitsuba.set_variant("llvm_ad_rgb")
mitsuba.set_log_level(mitsuba.LogLevel.Error)
drjit.set_thread_count(int(os.environ.get("RENDER_THREADS", "1")))

Radiance = NDArray[np.float32]
SAMPLES_A_PASS = 16
BRIGHTEST = 60
# Distance in decimetres at which a ray begins before the surface that it leaves.
ABOVE_SURFACE = 1e-3


def render(view: View, size: int, samples: int, seed: int, samples_a_pass: int = SAMPLES_A_PASS) -> Radiance:
    """Linear RGB radiance, (size, size, 3), from about `samples` paths a pixel, denoised.

    There are at least two passes of `samples_a_pass`, because noise is measured from how passes differ.
    """
    with tempfile.TemporaryDirectory() as folder:
        scene = _scene(view, Path(folder), size)
        passes = max(1, samples // samples_a_pass // 2) * 2
        layers = np.zeros((2, size, size, 9), np.float32)
        for index in range(passes):
            picture = np.asarray(mitsuba.render(scene, spp=samples_a_pass, seed=seed * 1000 + index))
            picture[..., :3] = np.clip(picture[..., :3], 0, BRIGHTEST * np.median(picture[..., :3]))
            layers[index % 2] += picture / (passes // 2)
    albedo, normals = layers[..., 3:6].mean(axis=0), layers[..., 6:].mean(axis=0)
    return denoise(layers[0, ..., :3], layers[1, ..., :3], albedo, normals)


def render_mask(view: View, size: int, samples: int, seed: int) -> Radiance:
    """The product's share of each pixel, (size, size) in [0, 1], occluders and focus blur taken into account."""
    with tempfile.TemporaryDirectory() as folder:
        scene = _scene(view, Path(folder), size, mask=True)
        return np.asarray(np.clip(np.asarray(mitsuba.render(scene, spp=samples, seed=seed))[..., 0], 0, 1))


def shown_area(view: View, points: Points, normals: Points, least_cosine: float) -> Points:
    """The area that a small piece of surface has in the picture, by its own area and without the picture's scale.

    Args:
        view: what is seen.
        points: (n, 3), on its surfaces.
        normals: (n, 3), of these surfaces, of unit length and either sign.
        least_cosine: of the angle between the normal and the line of sight; a surface that is seen flatter is not.

    Returns:
        (n,), 0 where the point is not seen, or something hides it from the middle of the lens.
    """
    towards = _origin(view.camera) - points
    distance = np.linalg.norm(towards, axis=1)
    direction = towards / distance[:, None]
    # A ray that began on the surface itself would hit it.
    start = points + ABOVE_SURFACE * direction
    with tempfile.TemporaryDirectory() as folder:
        scene = _scene(view, Path(folder), 16, mask=True)
        rays = mitsuba.Ray3f(mitsuba.Point3f(start.T), mitsuba.Vector3f(direction.T))
        rays.maxt = mitsuba.Float(distance - ABOVE_SURFACE)
        hidden = np.asarray(scene.ray_test(rays))
    cosine = np.abs((normals * direction).sum(axis=1))
    return np.where(hidden | (cosine < least_cosine), 0.0, cosine / distance**2)


def _scene(view: View, folder: Path, size: int, mask: bool = False) -> Any:
    description: dict[str, Any] = {
        "type": "scene",
        "integrator": _integrator(mask),
        "sensor": _sensor(view.camera, size),
    }
    parts = [*((part, True) for part in view.product), *((part, False) for part in view.surroundings)]
    for index, (part, is_product) in enumerate(parts):
        path = folder / f"part{index}.ply"
        _write_mesh(part.mesh, path)
        shape: dict[str, Any] = {"type": "ply", "filename": str(path)}
        if mask:
            # As a colour and not as a light, because lights shine on the side of their normals alone.
            shape["bsdf"] = {"type": "twosided", "bsdf": {"type": "diffuse", "reflectance": _grey(float(is_product))}}
        else:
            shape["bsdf"] = _surface(part.material)
            if part.material.glow:
                shape["emitter"] = {"type": "area", "radiance": _colour(part.material.colour, part.material.glow)}
        description[f"part{index}"] = shape
    if not mask:
        description["surrounding_light"] = _surrounding_light(view)
        description |= {f"light{index}": _soft_box(light) for index, light in enumerate(view.lights)}
    return mitsuba.load_dict(description)


def _integrator(mask: bool) -> dict[str, Any]:
    if mask:
        return {"type": "aov", "aovs": "albedo:albedo"}
    return {"type": "aov", "aovs": "albedo:albedo,normal:sh_normal", "picture": {"type": "path", "max_depth": 4}}


def _origin(camera: Camera) -> Points:
    yaw, elevation = np.radians(camera.yaw), np.radians(camera.elevation)
    direction = np.array([np.sin(yaw) * np.cos(elevation), -np.cos(yaw) * np.cos(elevation), np.sin(elevation)])
    return np.asarray(np.asarray(camera.target) + direction * camera.distance)


def _sensor(camera: Camera, size: int) -> dict[str, Any]:
    transform = mitsuba.ScalarTransform4f().look_at(_origin(camera).tolist(), list(camera.target), [0, 0, 1])
    return {
        "type": "thinlens",
        "to_world": transform,
        "fov": camera.angle,
        "aperture_radius": camera.aperture,
        "focus_distance": camera.focus or camera.distance,
        "film": {"type": "hdrfilm", "width": size, "height": size, "rfilter": {"type": "mitchell"}},
        "sampler": {"type": "multijitter"},
    }


def _soft_box(light: Light) -> dict[str, Any]:
    transform = mitsuba.ScalarTransform4f().look_at(list(light.position), list(light.target), [0.01, 0.02, 1])
    radiance = [light.power * channel for channel in light.colour]
    return {
        "type": "rectangle",
        "to_world": transform @ mitsuba.ScalarTransform4f().scale(light.size / 2),
        "emitter": {"type": "area", "radiance": {"type": "rgb", "value": radiance}},
        "bsdf": {"type": "diffuse", "reflectance": _grey(0.0)},
    }


def _surrounding_light(view: View) -> dict[str, Any]:
    """A room-like dome: `sky` above fading into `ground_glow`, with soft brighter and darker walls around."""
    height = np.cos(np.linspace(0, np.pi, 64))[:, None, None]
    around = np.linspace(0, 2 * np.pi, 128)[None, :, None]
    walls = 1 + 0.35 * np.sin(around + 0.6) + 0.2 * np.sin(3 * around)
    weight = 1 / (1 + np.exp(-6 * height))
    dome = (weight * np.asarray(view.sky) + (1 - weight) * np.asarray(view.ground_glow)) * walls
    bitmap = mitsuba.Bitmap(np.ascontiguousarray(dome, dtype=np.float32))
    upright = mitsuba.ScalarTransform4f().rotate([1, 0, 0], 90)
    return {"type": "envmap", "bitmap": bitmap, "to_world": upright}


def _surface(material: Material) -> dict[str, Any]:
    colour = _colour(material.colour)
    bsdf: dict[str, Any]
    match material.kind:
        case "coated":
            bsdf = {
                "type": "roughplastic",
                "diffuse_reflectance": colour,
                "alpha": material.roughness,
                "nonlinear": True,
            }
        case "matte":
            bsdf = {"type": "diffuse", "reflectance": colour}
        case "metal":
            bsdf = {"type": "roughconductor", "material": "none", "specular_reflectance": colour}
            bsdf["alpha"] = material.roughness
        case "glass":
            return {"type": "dielectric", "int_ior": 1.5}
    if material.relief is not None:
        texture = {"type": "bitmap", "bitmap": mitsuba.Bitmap(material.relief[..., :1]), "raw": True}
        bsdf = {"type": "bumpmap", "arbitrary": texture, "scale": material.relief_height, "bsdf": bsdf}
    return {"type": "twosided", "bsdf": bsdf}


def _colour(colour: Vector | Texture, brightness: float = 1.0) -> dict[str, Any]:
    encoded = np.asarray(colour, np.float32) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4) * brightness
    if linear.ndim == 1:
        return {"type": "rgb", "value": linear.tolist()}
    return {"type": "bitmap", "bitmap": mitsuba.Bitmap(linear.astype(np.float32)), "raw": False, "wrap_mode": "mirror"}


def _grey(value: float) -> dict[str, Any]:
    return {"type": "rgb", "value": [value] * 3}


def _write_mesh(mesh: Mesh, path: Path) -> None:
    target = mitsuba.Mesh(
        path.stem, len(mesh.vertices), len(mesh.faces), has_vertex_normals=True, has_vertex_texcoords=True
    )
    parameters = mitsuba.traverse(target)
    parameters["vertex_positions"] = mitsuba.Float(np.ravel(mesh.vertices).astype(np.float32))
    parameters["vertex_normals"] = mitsuba.Float(np.ravel(mesh.normals()).astype(np.float32))
    downwards = mesh.texture * [1, -1] + [0, 1]
    parameters["vertex_texcoords"] = mitsuba.Float(np.ravel(downwards).astype(np.float32))
    parameters["faces"] = mitsuba.UInt32(np.ravel(mesh.faces).astype(np.uint32))
    parameters.update()
    target.write_ply(str(path))
