// Opens the document of this very server. A separate file, because the page allows no scripts of its own.
window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  displayOperationId: true,
  displayRequestDuration: true,
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  // Would send the document to a validator elsewhere.
  validatorUrl: null,
});
