from fastapi import APIRouter


def playground_routes(desk):
    return APIRouter()
