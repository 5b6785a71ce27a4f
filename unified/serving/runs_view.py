from fastapi import APIRouter


def runs_routes(desk):
    return APIRouter()
