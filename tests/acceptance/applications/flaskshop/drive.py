import json

import flaskshop

app = flaskshop.create_app()
client = app.test_client()
sent = client.get("/greet/Ann").json["id"]
print(
    json.dumps(
        {
            "view": client.get(f"/result/{sent}").json,
            "inside": flaskshop.inside.delay().get(timeout=20),
            "price": flaskshop.price.delay("tea").get(timeout=20),
        },
        sort_keys=True,
    )
)
